"""Synthetic pictures with the statistics of natural images: dead leaves and 1/f noise.

Source: A. B. Lee, D. Mumford, J. Huang, *Occlusion models for natural images*, IJCV 41 (2001).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Floats = NDArray[np.float32]

LEAF_RADII_PX = (2.0, 60.0)


def dead_leaves(side_px: int, rng: np.random.Generator) -> Floats:
    """Draw overlapping discs with radii of density r^-3, (side_px, side_px) float32 in [0, 255]."""
    low, high = LEAF_RADII_PX
    axis = np.arange(side_px, dtype=np.float32)
    picture = np.full((side_px, side_px), rng.uniform(0, 255), dtype=np.float32)
    # Enough that most of the first ground is covered.
    count = int(40 + 0.02 * side_px**2)
    radii = (low**-2 - rng.uniform(size=count) * (low**-2 - high**-2)) ** -0.5
    places = rng.uniform(-high / 4, side_px + high / 4, (count, 2))
    for radius, (x, y), grey in zip(radii, places, rng.uniform(0, 255, count), strict=True):
        rows = slice(max(int(y - radius), 0), max(int(y + radius) + 2, 0))
        columns = slice(max(int(x - radius), 0), max(int(x + radius) + 2, 0))
        inside = (axis[rows, None] - y) ** 2 + (axis[None, columns] - x) ** 2 < radius**2
        picture[rows, columns][inside] = grey
    return np.asarray(ndimage.gaussian_filter(picture, 0.7), dtype=np.float32)


def pink_noise(side_px: int, rng: np.random.Generator) -> Floats:
    """Draw Gaussian noise whose amplitude falls as 1/f, (side_px, side_px) float32 in [0, 255]."""
    frequency = np.hypot(fft.fftfreq(side_px)[:, None], fft.rfftfreq(side_px)[None, :])
    frequency[0, 0] = np.inf
    white = np.asarray(fft.rfft2(rng.standard_normal((side_px, side_px))))
    picture = np.asarray(fft.irfft2(white / frequency, s=(side_px, side_px)))
    picture = 127.5 + 50.0 * picture / picture.std()
    return picture.clip(0.0, 255.0).astype(np.float32)
