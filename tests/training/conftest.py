"""Small data roots for the training tests."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.config.recipe import find_recipe


def grating(*, side_px: int, seed: int) -> NDArray[np.uint8]:
    """Draw bright-edged lines at a random angle with a little noise, (side, side) uint8."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[:side_px, :side_px]
    phase = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / rng.uniform(20, 40)
    lines = np.tanh(4 * np.sin(phase))
    edges = 1 - lines**2
    image = 60 + 25 * lines + 60 * edges + rng.normal(0, 2, lines.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Write four 112x128 HR images as `hr/hr_0.png` to `hr/hr_3.png`."""
    folder = tmp_path / "data" / "hr"
    folder.mkdir(parents=True)
    for number in range(4):
        Image.fromarray(grating(side_px=128, seed=number)[:112]).save(folder / f"hr_{number}.png")
    return tmp_path / "data"


@pytest.fixture
def tiny_recipe() -> Path:
    """Return the shipped recipe that trains in a second or two."""
    return find_recipe("tiny")


@pytest.fixture
def unpaired_root(data_root: Path) -> Path:
    """Add four unaligned LR images, `lr/lr_0.png` and so on, 56 px, of other gratings."""
    folder = data_root / "lr"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for number in range(4):
        fine = grating(side_px=224, seed=100 + number).astype(np.float64)
        coarse = fine.reshape(56, 4, 56, 4).mean(axis=(1, 3))
        noisy = 1.4 * coarse + rng.normal(0, 5, coarse.shape)
        picture = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"lr_{number}.png")
    return data_root
