"""Figures of gradient maps: strength and thinness of edges, and gradients in flat areas.

The interpretation follows Chakraborty 2022 (appendix B.2): HR has thin, strong edges, the enlarged
input has wide, weak edges with artefacts, and a good method lies in between. Gradients are central
differences of the picture scaled to 0 to 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.evaluation.folders.benchmark import Picture

GRADIENT_BINS = 256
GRADIENT_LIMIT = 0.5
"""The largest central difference on 0 to 1 along one axis; steeper diagonals fall in the last
bin."""

FLAT_SIGMA_PX = 3.0
STRONG_QUANTILE = 0.95


@dataclass(frozen=True, kw_only=True)
class GradientFigures:
    """Figures of one gradient map.

    Attributes:
        histogram: (GRADIENT_BINS,) counts from 0 to `GRADIENT_LIMIT`.
        thinness: Share of the strongest 5 % of pixels that are ridges: local maxima across the
            edge. Thin edges have most of their strong pixels on the ridge.
        flat_mean: Mean magnitude where the scene is flat: grain and artefacts; NaN if nowhere.
    """

    histogram: NDArray[np.int64]
    thinness: float
    flat_mean: float


def gradient_magnitude(picture: Picture) -> NDArray[np.float32]:
    """Return the gradient magnitude of (H, W) uint8 scaled to 0 to 1; one-sided at borders."""
    y, x = _components(picture)
    return np.hypot(y, x)


def flat_area(truth: Picture) -> NDArray[np.bool_]:
    """Return the flat half of a scene: the pixels of least low-passed slope in the true HR."""
    smooth = ndimage.gaussian_filter(truth.astype(np.float32), FLAT_SIGMA_PX)
    y, x = np.gradient(smooth)
    slope = np.hypot(y, x)
    return slope <= np.median(slope)


def measure_gradients(picture: Picture, flat: NDArray[np.bool_]) -> GradientFigures:
    """Measure one gradient map.

    Args:
        picture: (H, W) uint8.
        flat: (H, W), True where the scene is flat; see `flat_area`.
    """
    y, x = _components(picture)
    magnitude = np.hypot(y, x)
    scaled = np.minimum(magnitude * (GRADIENT_BINS / GRADIENT_LIMIT), GRADIENT_BINS - 1)
    return GradientFigures(
        histogram=np.bincount(scaled.astype(np.int64).ravel(), minlength=GRADIENT_BINS),
        thinness=_thinness(y, x, magnitude),
        flat_mean=float(magnitude[flat].mean(dtype=np.float64)) if flat.any() else float("nan"),
    )


def histogram_quantiles(
    histogram: NDArray[np.float64] | NDArray[np.int64], quantiles: tuple[float, ...]
) -> tuple[float, ...]:
    """Return quantiles of the gradient magnitude from its histogram, linear within a bin."""
    shares = np.concatenate([[0.0], np.cumsum(histogram) / histogram.sum()])
    edges = np.linspace(0.0, GRADIENT_LIMIT, GRADIENT_BINS + 1)
    return tuple(float(np.interp(quantile, shares, edges)) for quantile in quantiles)


def _components(picture: Picture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    y, x = np.gradient(picture.astype(np.float32) / np.float32(255.0))
    return np.asarray(y), np.asarray(x)


def _thinness(
    y: NDArray[np.float32], x: NDArray[np.float32], magnitude: NDArray[np.float32]
) -> float:
    """Return the share of strong pixels that are not below either neighbour across the edge.

    The direction is taken to the nearest of eight neighbours, as in Canny 1986.
    """
    inner = magnitude[1:-1, 1:-1]
    strong = inner > np.quantile(inner, STRONG_QUANTILE)
    rows, columns = np.nonzero(strong)
    if rows.size == 0:
        return float("nan")
    rows, columns = rows + 1, columns + 1
    octant = np.rint(np.arctan2(y[rows, columns], x[rows, columns]) * (4 / np.pi)).astype(int) % 4
    step_y, step_x = np.array([0, 1, 1, 1])[octant], np.array([1, 1, 0, -1])[octant]
    here = magnitude[rows, columns]
    is_ridge = (here >= magnitude[rows + step_y, columns + step_x]) & (
        here >= magnitude[rows - step_y, columns - step_x]
    )
    return float(is_ridge.mean())
