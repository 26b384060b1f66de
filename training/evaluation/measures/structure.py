"""Contrast and local correlation of each defect in a picture, compared with the true HR.

Source: the project's own definitions; local correlation is Pearson's r after a low-pass.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.evaluation.folders.benchmark import Box, Defect, Picture

LOW_PASS_SIGMA_PX = 2.0
BOX_PADDING_PX = 8
RING_GAP_PX = 3
RING_WIDTH_PX = 6
FILTER_REACH_PX = 8
"""Pixels beyond the padded box that the low-pass sees: four sigma."""

MIN_CONTRAST_GREY = 3.0
MIN_CONTRAST_ERRORS = 4.0
"""Least true contrast of a defect, in grey levels and in standard errors, for a contrast ratio; a
smaller one would give a ratio of noise."""


@dataclass(frozen=True, kw_only=True)
class DefectStructure:
    """Preservation of one defect in a picture.

    Attributes:
        contrast_ratio: (mean inside - mean of the ring around) in the picture over the same in the
            true HR, sign kept: 1 is right, 0 lost, negative inverted. NaN where the truth itself
            has too little contrast between inside and ring.
        correlation: Pearson's r of the low-passed pictures in the padded box, -1 to 1.
    """

    contrast_ratio: float
    correlation: float


def measure_structure(
    image: Picture, truth: Picture, mask: Picture, defects: tuple[Defect, ...]
) -> list[DefectStructure]:
    """Measure every defect of a tile.

    Args:
        image: (H, W) uint8, the method's picture.
        truth: (H, W) uint8, the true HR.
        mask: (H, W) uint8, k where defect k is.
        defects: Defects of this tile.
    """
    return [_measure_one(image, truth, mask, defect) for defect in defects]


def local_correlation_in(image: Picture, truth: Picture, box: Box) -> float:
    """Correlate two pictures in a box grown by `BOX_PADDING_PX`, both low-passed (sigma 2 px).

    Returns:
        Pearson's r; 0 where one of the two is constant.
    """
    window, inner = _windows(box, image.shape, BOX_PADDING_PX)
    x, y = (
        ndimage.gaussian_filter(picture[window].astype(np.float64), LOW_PASS_SIGMA_PX)[inner]
        for picture in (image, truth)
    )
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x * x).sum() * (y * y).sum()))
    # Filtering a constant leaves rounding errors, which must not correlate.
    return float((x * y).sum() / norm) if norm > 1e-6 else 0.0


def _measure_one(image: Picture, truth: Picture, mask: Picture, defect: Defect) -> DefectStructure:
    reach = RING_GAP_PX + RING_WIDTH_PX
    window, _ = _windows(defect.box_hr_px, image.shape, reach)
    inside = mask[window] == defect.number
    near = _grown(inside, RING_GAP_PX)
    far = _grown(near, RING_WIDTH_PX)
    ring = far & ~near & (mask[window] == 0)
    return DefectStructure(
        contrast_ratio=_contrast_ratio(image[window], truth[window], inside, ring),
        correlation=local_correlation_in(image, truth, defect.box_hr_px),
    )


def _contrast_ratio(
    image: Picture, truth: Picture, inside: NDArray[np.bool_], ring: NDArray[np.bool_]
) -> float:
    if not inside.any() or not ring.any():
        return float("nan")
    true_contrast = _contrast(truth, inside, ring)
    # The noise of the means, by what neighbouring pixels differ.
    noise = float(np.median(np.abs(np.diff(truth.astype(np.float64), axis=1)))) / 0.6745 / 2**0.5
    error = noise * (1 / inside.sum() + 1 / ring.sum()) ** 0.5
    if abs(true_contrast) < max(MIN_CONTRAST_GREY, MIN_CONTRAST_ERRORS * error):
        return float("nan")
    return _contrast(image, inside, ring) / true_contrast


def _contrast(picture: Picture, inside: NDArray[np.bool_], ring: NDArray[np.bool_]) -> float:
    return float(picture[inside].mean(dtype=np.float64) - picture[ring].mean(dtype=np.float64))


def _grown(area: NDArray[np.bool_], steps_px: int) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(area, iterations=steps_px), dtype=bool)


def _windows(
    box: Box, shape: tuple[int, ...], padding_px: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Cut the box with padding and filter reach, and the padded box within that cut."""
    left, top, right, bottom = box
    rows = _span(top, bottom, padding_px, shape[0])
    columns = _span(left, right, padding_px, shape[1])
    return (rows[0], columns[0]), (rows[1], columns[1])


def _span(low: int, high: int, padding_px: int, limit: int) -> tuple[slice, slice]:
    start, stop = max(low - padding_px, 0), min(high + padding_px, limit)
    outer = max(start - FILTER_REACH_PX, 0)
    return slice(outer, min(stop + FILTER_REACH_PX, limit)), slice(start - outer, stop - outer)
