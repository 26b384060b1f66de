"""Outlines of defects as signed distances in px, positive inside, with roughness."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

Floats = NDArray[np.float32]

CORNER_PX = 5.0
"""Rounding of the corner between two joined outlines."""

EDGE_SIGMA_PX = 1.3
"""Blur of a drawn outline: the spot of a review scan."""

ROUGHNESS_PX = (0.3, 1.0)
"""Range of an outline's roughness (standard deviation), as of etched edges at 1 nm per pixel."""


def blob(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    diameter_px: tuple[float, float],
    margin_px: float,
) -> tuple[Floats, Floats, float]:
    """Draw a blob; return the distance to its outline, the angle around its centre, its radius.

    The diameter is drawn log-uniformly.
    """
    radius_px = 0.5 * float(np.exp(rng.uniform(*np.log(diameter_px))))
    # Near the middle of the window, which lies around a place drawn from the whole image.
    y_px, x_px = (
        rng.uniform(
            min(side / 3, margin_px + radius_px), max(2 * side / 3, side - margin_px - radius_px)
        )
        for side in shape
    )
    x, y = axes(shape, x_px=x_px, y_px=y_px, angle_rad=rng.uniform(0, np.pi))
    y = y / rng.uniform(0.7, 1.0)
    theta = np.arctan2(y, x)
    outline = sum(
        rng.normal(0, 0.1 / (order - 1)) * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
        for order in range(2, 7)
    )
    distance = radius_px * np.exp(np.clip(outline, -0.5, 0.3)) - np.hypot(x, y)
    distance = distance + min(1.0, radius_px / 10) * roughness(shape, rng)
    return distance.astype(np.float32), theta.astype(np.float32), radius_px


def axes(
    shape: tuple[int, ...], *, x_px: float, y_px: float, angle_rad: float
) -> tuple[Floats, Floats]:
    """Return every pixel's coordinates in a defect's axes, across and along."""
    x = (np.arange(shape[1], dtype=np.float32) - np.float32(x_px))[None, :]
    y = (np.arange(shape[0], dtype=np.float32) - np.float32(y_px))[:, None]
    cosine, sine = np.float32(np.cos(angle_rad)), np.float32(np.sin(angle_rad))
    across, along = x * cosine + y * sine, y * cosine - x * sine
    return across.astype(np.float32), along.astype(np.float32)


def roughness(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Return a smooth random field, in px, that makes an outline rough."""
    sigma_px = 4.0
    white = rng.standard_normal(shape, dtype=np.float32)
    # A Gaussian of that width divides the deviation of white noise by 2 sqrt(pi) sigma.
    smooth = 2 * np.sqrt(np.pi) * sigma_px * ndimage.gaussian_filter(white, sigma_px)
    return np.float32(rng.uniform(*ROUGHNESS_PX)) * smooth.astype(np.float32)


def inside(distance: Floats, sigma_px: float) -> Floats:
    """Return 1 inside an outline and 0 outside, blurred by a Gaussian."""
    return special.ndtr(distance / sigma_px).astype(np.float32)


def smooth_maximum(a: Floats, b: Floats) -> Floats:
    """Return the union of two shapes, given as signed distances, with rounded corners."""
    return ((a + b + np.hypot(a - b, np.float32(CORNER_PX))) / 2).astype(np.float32)
