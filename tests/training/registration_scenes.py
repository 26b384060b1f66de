"""Pictures with known shifts for the tests of registration: simulated tiles and ideal gratings."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.simulator.recipes import TileRecipe
from training.simulator.tile import SimulatedTile, simulate_tile

SCALE = 4
BORDER_LR_PX = 8
Grey = NDArray[np.uint8]
Floats = NDArray[np.float64]


def rounded(grey: Floats) -> Grey:
    """Round to 8 bits."""
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


@lru_cache(maxsize=16)
def simulated(scene: str, *, number: int = 0, side_px: int = 120) -> SimulatedTile:
    """Simulate a tile with a border of `BORDER_LR_PX` for shifts."""
    return simulate_tile(
        TileRecipe(scene), seed=5, number=number, tile_px=side_px + 2 * BORDER_LR_PX
    )


def shifted_pair(
    tile: SimulatedTile, shift: tuple[float, float], *, has_noise: bool = True
) -> tuple[Grey, Grey]:
    """Cut a pair whose HR shows the scene further down and right by a shift in HR px."""
    lr = tile.lr if has_noise else tile.lr_noise_free
    inner = slice(BORDER_LR_PX, -BORDER_LR_PX)
    hr = ndimage.shift(tile.hr, shift, order=3, mode="nearest") if any(shift) else tile.hr
    border = BORDER_LR_PX * SCALE
    return rounded(lr[inner, inner]), rounded(hr[border:-border, border:-border])


def grating(
    pitch_px: float,
    *,
    angle_deg: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    side_px: int = 480,
) -> Floats:
    """Draw smooth, perfectly straight lines on the HR grid; 0 degrees are lines along y."""
    y, x = np.mgrid[:side_px, :side_px].astype(np.float64)
    angle = np.radians(angle_deg)
    across = (x - shift[1]) * np.cos(angle) + (y - shift[0]) * np.sin(angle)
    from_edge = np.abs((across / pitch_px) % 1 - 0.5) * pitch_px - pitch_px / 4
    return 40 + 80 / (1 + np.exp(-from_edge / 2.5))


def fast_scan(signal: Floats, rng: np.random.Generator, *, noise_sigma: float = 5.0) -> Grey:
    """Return LR of a signal on the HR grid: blur, 4x4 mean, noise, another tone."""
    rows, columns = (side // SCALE for side in signal.shape)
    blurred = ndimage.gaussian_filter(signal, 2.9)
    lr = blurred.reshape(rows, SCALE, columns, SCALE).mean((1, 3))
    return rounded(20 + 0.8 * lr + noise_sigma * rng.standard_normal(lr.shape))


def slow_scan(signal: Floats, rng: np.random.Generator, *, noise_sigma: float = 3.0) -> Grey:
    """Return HR of a signal on the HR grid."""
    return rounded(signal + noise_sigma * rng.standard_normal(signal.shape))
