"""Conversion of a map of probabilities to a list of detections."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MERGE_PX = 12
"""Peaks nearer than this to a detection's region belong to it."""

SCORE_FLOOR = 0.02
"""Least score of a detection: far below any threshold, so that FROC curves reach high rates."""

REGION_SHARE = 0.5
"""A detection's region ends where the probability falls below this share of its peak."""


@dataclass(frozen=True)
class Detection:
    """One suspected defect.

    Attributes:
        x_px: Centre of its region, weighted by probability, in HR pixels from the left edge.
        y_px: The same from the top edge.
        score: Probability at its peak, in (0, 1).
        box_px: Box of its region in HR pixels: left, top, right, bottom, half-open.
    """

    x_px: float
    y_px: float
    score: float
    box_px: tuple[int, int, int, int]


def find_peaks(
    score_map: NDArray[np.floating], *, cell_px: int, floor: float = SCORE_FLOOR
) -> list[Detection]:
    """List the peaks of a map, the highest first; of equal ones the upper, then the left one.

    A peak's region is the connected cells around it that reach half its score and are not claimed
    yet. It claims them and every cell within `MERGE_PX`; peaks there are not listed again. So one
    long scratch is one detection, and two defects with a valley between them are two.

    Args:
        score_map: (rows, columns) probabilities, one a cell.
        cell_px: Side of a cell in HR pixels.
        floor: Least score of a peak.

    Raises:
        ValueError: The map is not two-dimensional.
    """
    if score_map.ndim != 2:
        raise ValueError(
            f"a score map has rows and columns, got an array of shape {score_map.shape}"
        )
    scores = score_map.astype(np.float64)
    is_peak = (scores >= floor) & (scores == ndimage.maximum_filter(scores, size=3))
    rows, columns = np.nonzero(is_peak)
    order = np.argsort(-scores[rows, columns], kind="stable")
    claimed = np.zeros(scores.shape, dtype=bool)
    numbers = np.empty(scores.shape, dtype=np.int32)
    reach_cells = MERGE_PX // cell_px
    found: list[Detection] = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if claimed[row, column]:
            continue
        peak = float(scores[row, column])
        reached = (scores >= max(REGION_SHARE * peak, floor)) & ~claimed
        ndimage.label(reached, structure=_EIGHT, output=numbers)
        region = numbers == numbers[row, column]
        box = _box(region)
        _claim(claimed, region, box, reach_cells)
        found.append(_detection(scores, region, box, score=peak, cell_px=cell_px))
    return found


_EIGHT = np.ones((3, 3), dtype=bool)

_Box = tuple[int, int, int, int]


def _box(region: NDArray[np.bool_]) -> _Box:
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _claim(claimed: NDArray[np.bool_], region: NDArray[np.bool_], box: _Box, reach: int) -> None:
    """Mark in place the cells within `reach` cells of a region; works on its box, for speed."""
    left, top, right, bottom = box
    part = np.s_[max(top - reach, 0) : bottom + reach, max(left - reach, 0) : right + reach]
    claimed[part] |= np.asarray(ndimage.distance_transform_edt(~region[part])) <= reach


def _detection(
    scores: NDArray[np.float64],
    region: NDArray[np.bool_],
    box: _Box,
    *,
    score: float,
    cell_px: int,
) -> Detection:
    left, top, right, bottom = box
    part = np.s_[top:bottom, left:right]
    weight = scores[part] * region[part]
    rows, columns = np.indices(weight.shape)
    y, x = np.sum(rows * weight) / weight.sum(), np.sum(columns * weight) / weight.sum()
    return Detection(
        x_px=(left + float(x) + 0.5) * cell_px,
        y_px=(top + float(y) + 0.5) * cell_px,
        score=score,
        box_px=(left * cell_px, top * cell_px, right * cell_px, bottom * cell_px),
    )
