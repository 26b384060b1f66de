"""Grain along edges relative to the grain of flat areas of the same grey, as one number.

Grain is measured as the third difference of four neighbouring pixels, in the one of four directions
that is nearest to the edge's tangent. The third difference ignores anything quadratic along the
tangent: the profile across the edge, a direction off by a few degrees, and a gentle curve. It
responds to detail finer than about 3 px. Flat areas are measured in the same way and directions, so
that uniform grain of any spectrum gives 1. Because grain depends on grey, an edge pixel is compared
with flat areas of its own grey.

Source: the project's own definition; the structure tensor is that of Foerstner and Guelch 1987.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.ground.quality import Grey

SCALE_PX = 2.0
"""Sigma of the gradient filter: larger than grain, smaller than the distance between edges."""

TENSOR_SIGMA_PX = 3.0
MIN_COHERENCE = 0.8
"""Least coherence of the structure tensor; corners, small dots and grain have less."""

EDGE_GRADIENT_GREY = 2.0
"""Gradient at `SCALE_PX` from which on there is an edge, grey levels a pixel: a step of 12."""

NOISE_SIGMAS = 8.0
"""Least gradient of an edge in deviations of the grain's gradient."""

BAND_PX = 3
"""Greatest distance of an edge pixel from the edge."""

FLAT_PX = 2
"""Pixels of flats are farther than this from anything of half an edge's gradient."""

MIN_PIXELS = 500
MIN_GRAIN_GREY = 0.5
"""Least deviation of the flat areas' grain; below it there is only rounding."""

BIN_GREY = 8.0
CLIP_GREY = 4.0
"""Least distance of a pixel from black and white; nearer pixels have lost grain by clipping."""

STEPS = ((0, 1), (1, 1), (1, 0), (1, -1))
"""Directions: rows and columns of one step, at 0, 45, 90 and 135 degrees (x right, y down)."""

GAIN = 20.0
"""Variance of the third difference of white noise of variance 1: 1 + 9 + 9 + 1."""

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class EdgeGrain:
    """Grain at the edges of one picture.

    Attributes:
        ratio: Deviation of grain along edges over that of flats of the same grey; NaN where there
            are too few pixels of either, or no grain on the flats.
        edge_px: Number of edge pixels that were compared.
    """

    ratio: float
    edge_px: int


def edge_grain(image: Grey) -> EdgeGrain:
    """Compare the grain along a picture's edges with that of its flats.

    Args:
        image: (H, W) grey levels, 0 to 255, at least 32 pixels a side.
    """
    pixels = image.astype(np.float32)
    edges, flats, direction = _areas(pixels)
    grey = np.asarray(ndimage.gaussian_filter(pixels, SCALE_PX, mode="nearest"), np.float32)
    usable = (grey > CLIP_GREY) & (grey < 255.0 - CLIP_GREY)
    edges, flats = edges & usable, flats & usable
    energies, expected = 0.0, 0.0
    count = 0
    for number, step in enumerate(STEPS):
        along = edges & (direction == number)
        if not along.any():
            continue
        square = _third_difference(pixels, step) ** 2 / GAIN
        wanted = _energy_at(grey[along], grey[flats], square[flats])
        if wanted is None:
            return EdgeGrain(ratio=float("nan"), edge_px=0)
        energies += float(square[along].sum(dtype=np.float64))
        expected += float(wanted.sum())
        count += int(along.sum())
    if count < MIN_PIXELS or expected / max(count, 1) < MIN_GRAIN_GREY**2:
        return EdgeGrain(ratio=float("nan"), edge_px=count)
    return EdgeGrain(ratio=(energies / expected) ** 0.5, edge_px=count)


def mean_edge_grain(pictures: Iterable[Grey]) -> float:
    """Return the mean edge grain of the pictures with edges and flat areas; NaN if none has."""
    ratios = np.array([edge_grain(picture).ratio for picture in pictures])
    found = ratios[np.isfinite(ratios)]
    return float(found.mean()) if found.size else float("nan")


def _areas(pixels: Floats) -> tuple[Mask, Mask, NDArray[np.int64]]:
    """Return the edges, the flats, and the number in `STEPS` of the direction along each edge."""
    gy, gx = (_slope(pixels, axis) for axis in (0, 1))
    gradient = np.hypot(gx, gy)
    # Where most of the picture is flat this is the grain's own gradient (median of a Rayleigh).
    grain = float(np.quantile(gradient, 0.25)) / 0.7585
    least = max(EDGE_GRADIENT_GREY, NOISE_SIGMAS * min(grain, EDGE_GRADIENT_GREY / 2))
    xx, yy, xy = (
        ndimage.gaussian_filter(product, TENSOR_SIGMA_PX, mode="nearest")
        for product in (gx * gx, gy * gy, gx * gy)
    )
    spread = np.hypot(xx - yy, 2 * xy)
    coherent = spread > MIN_COHERENCE * (xx + yy)
    near = ndimage.maximum_filter(gradient, 2 * BAND_PX + 1) > least
    far = ndimage.maximum_filter(gradient, 2 * FLAT_PX + 1) <= least / 2
    # The tangent lies across the mean gradient, whose angle is half that of the tensor.
    tangent = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    direction = np.rint(tangent / (np.pi / 4)).astype(np.int64) % 4
    inner = np.zeros(pixels.shape, dtype=bool)
    inner[4:-4, 4:-4] = True
    return near & coherent & inner, far & inner, direction


def _slope(pixels: Floats, axis: int) -> Floats:
    along = ndimage.gaussian_filter1d(pixels, SCALE_PX, axis=axis, order=1, mode="nearest")
    return np.asarray(
        ndimage.gaussian_filter1d(along, SCALE_PX, axis=1 - axis, mode="nearest"), np.float32
    )


def _third_difference(pixels: Floats, step: tuple[int, int]) -> Floats:
    """Return p(-1) - 3 p(0) + 3 p(1) - p(2) along a step, at p(0); wraps at the border."""
    dy, dx = step

    def at(count: int) -> Floats:
        return np.roll(pixels, (-count * dy, -count * dx), axis=(0, 1))

    return at(-1) - 3 * at(0) + 3 * at(1) - at(2)


def _energy_at(grey: Floats, flat_grey: Floats, square: Floats) -> NDArray[np.float64] | None:
    """Return the flats' mean square at each grey, from a line through bins of the flats' greys."""
    if flat_grey.size < MIN_PIXELS:
        return None
    place = (flat_grey / BIN_GREY).astype(np.int64)
    counts = np.bincount(place).astype(np.float64)
    kept = counts >= MIN_PIXELS / 5
    if not kept.any():
        return None
    means = np.bincount(place, weights=square)[kept] / counts[kept]
    centres = np.bincount(place, weights=flat_grey)[kept] / counts[kept]
    weights = counts[kept]
    middle = np.average(centres, weights=weights)
    level = np.average(means, weights=weights)
    spread = float((weights * (centres - middle) ** 2).sum())
    # One grey alone says nothing of the slope; noise does not fall with grey.
    slope = float((weights * (centres - middle) * (means - level)).sum()) / (spread + weights.sum())
    line = level + max(slope, 0.0) * (grey.astype(np.float64) - middle)
    return np.maximum(line, float(means.min()) / 2)
