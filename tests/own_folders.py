"""Two small own folders for the tests of `semsr accept`: gratings, fast and slow, not aligned."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Grey = NDArray[np.uint8]


def scene(*, side_px: int, seed: int) -> NDArray[np.float64]:
    """Draw bright-edged lines at a random angle, (side, side), without noise."""
    rng = np.random.default_rng(seed)
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(30, 60)
    y, x = np.mgrid[:side_px, :side_px]
    phase = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / pitch
    lines = np.tanh(4 * np.sin(phase))
    return 60 + 25 * lines + 60 * (1 - lines**2)


def slow(*, side_px: int, seed: int, noise: int = 1000) -> Grey:
    """Return an HR image; `noise` is added to the seed of its noise."""
    grain = np.random.default_rng(seed + noise).normal(0, 2, (side_px, side_px))
    return _rounded(ndimage.gaussian_filter(scene(side_px=side_px, seed=seed), 1.0) + grain)


def fast(*, side_px: int, seed: int) -> Grey:
    """Return an LR image of a place of the same kind."""
    fine = scene(side_px=4 * side_px, seed=seed + 500)
    coarse = fine.reshape(side_px, 4, side_px, 4).mean(axis=(1, 3))
    noise = np.random.default_rng(seed + 2000).normal(0, 5, coarse.shape)
    return _rounded(1.2 * coarse + noise)


def write_folders(
    root: Path, *, count: int = 8, lr_px: int = 64, hr_px: int = 256
) -> tuple[Path, Path]:
    """Write `lr/` and `hr/` with some images each."""
    lr, hr = root / "lr", root / "hr"
    for folder in (lr, hr):
        folder.mkdir(parents=True)
    for number in range(count):
        save(lr / f"lr_{number:02d}.png", fast(side_px=lr_px, seed=number))
        save(hr / f"hr_{number:02d}.png", slow(side_px=hr_px, seed=number))
    return lr, hr


def save(path: Path, pixels: NDArray[np.uint8 | np.uint16]) -> None:
    """Write one image."""
    Image.fromarray(pixels).save(path)


def _rounded(grey: NDArray[np.float64]) -> Grey:
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
