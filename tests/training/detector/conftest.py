"""Small labelled tiles drawn without the simulator: bright squares on a noisy, lined ground."""

from collections.abc import Callable

import numpy as np
import pytest

from training.detector.tiles import LabelledTile


def draw_tile(*, seed: int, defects: int, side_px: int = 192) -> LabelledTile:
    """Draw lines with noise and `defects` bright squares of 12 px on a coarse grid of places."""
    rng = np.random.default_rng(seed)
    grey = 50 + 12 * np.sign(np.sin(np.arange(side_px) * 2 * np.pi / 32))[None, :]
    grey = grey + rng.normal(0, 4, (side_px, side_px))
    cells = np.zeros((side_px // 4, side_px // 4), dtype=np.uint8)
    places = rng.permutation(9)[:defects].tolist()
    for number, place in enumerate(places, start=1):
        row, column = (6 + 14 * (place // 3), 6 + 14 * (place % 3))
        cells[row : row + 3, column : column + 3] = number
        grey[4 * row : 4 * row + 12, 4 * column : 4 * column + 12] += 70
    hr = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return LabelledTile(hr, cells, "drawn", ("square",) * defects)


@pytest.fixture
def drawn_tile() -> Callable[..., LabelledTile]:
    """Return `draw_tile`."""
    return draw_tile
