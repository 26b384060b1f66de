"""A network with one reference for all tiles, and the detector of copies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models import CheckpointError, save_network
from models.lir import LirStyle
from training.methods.parts.fixed_reference import FixedReference, copy_score, mean_copy_score


@pytest.fixture
def network() -> LirStyle:
    """Build a small network."""
    torch.manual_seed(0)
    return LirStyle(width=2, num_blocks=1).eval()


@pytest.fixture
def reference(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw an HR image of noise."""
    return rng.integers(0, 256, (64, 72), dtype=np.uint8)


def test_it_enlarges_any_tile_in_the_style_of_its_reference(
    network: LirStyle, reference: NDArray[np.uint8], tmp_path: Path
) -> None:
    """It equals the network with that reference, and no checkpoint can hold it."""
    fixed = FixedReference(network, reference)
    lr = torch.rand(2, 1, 12, 14)
    grey = torch.from_numpy(reference.copy())[None, None].float() / 255.0

    with torch.no_grad():
        torch.testing.assert_close(fixed(lr), network(lr, grey))
        torch.testing.assert_close(fixed.merged()(lr), fixed(lr))
    with pytest.raises(CheckpointError, match="FixedReference is not in the registry"):
        save_network(tmp_path / "checkpoint.safetensors", fixed, training={})


def test_a_copy_of_the_reference_is_detected(rng: np.random.Generator) -> None:
    """The score is positive for a copy, and negative for an output that follows its input."""
    reference, source = (rng.integers(0, 256, (40, 48), dtype=np.uint8) for _ in range(2))
    corner, input_ = reference[:32, :40], source[:32, :40]

    assert pytest.approx(1.0, abs=0.1) == copy_score(corner, reference=reference, source=input_)
    assert pytest.approx(-1.0, abs=0.1) == copy_score(input_, reference=reference, source=input_)
    flat = np.full((8, 8), 9, np.uint8)
    assert 0.0 == copy_score(flat, reference=reference, source=source[:8, :8])


def test_the_mean_score_finds_a_network_that_copies(
    network: LirStyle, reference: NDArray[np.uint8], rng: np.random.Generator
) -> None:
    """It is that of the network's own outputs for the tiles."""
    fixed = FixedReference(network, reference)
    tiles = rng.integers(0, 256, (2, 12, 12), dtype=np.uint8)
    corner = torch.from_numpy(reference[:48, :48].copy()).float() / 255.0
    fixed.forward = lambda lr: corner.expand(len(lr), 1, -1, -1)

    assert pytest.approx(1.0, abs=0.1) == mean_copy_score(fixed, tiles)
