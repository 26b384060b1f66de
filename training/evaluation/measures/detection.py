"""Matching of detections with true defects: hits, false alarms, and the FROC curve.

A detection hits a defect if its point lies in the defect's box grown by `MATCH_MARGIN_PX`. Several
detections on one defect count as one hit. Recall is the share of defects that are hit. False alarms
are counted per tile, on tiles without defects. The free-response curve (FROC) shows recall over
false alarms per tile as the threshold falls; the FROC area covers 0 to 1 false alarm per tile.

Source: Bunch et al. 1977, "A free response approach to the measurement and characterization of
radiographic observer performance".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.evaluation.folders.benchmark import Box, Defect, Picture

MATCH_MARGIN_PX = 6
BORDER_PX = 16
"""Width of a picture's outer band, which has figures of its own because a network sees padding."""

NOT_FOUND = -1.0
"""Score of a defect that no detection hits; real scores are never negative."""


class DetectionLike(Protocol):
    """One detection: a point in pixels of the picture, and a score from 0 to 1."""

    @property
    def x_px(self) -> float:
        """Column of the point."""
        ...

    @property
    def y_px(self) -> float:
        """Row of the point."""
        ...

    @property
    def score(self) -> float:
        """Confidence of the detector, 0 to 1."""
        ...


class DetectorLike(Protocol):
    """Interface of a defect detector, such as the shipped one in `training.detector`."""

    @property
    def threshold(self) -> float:
        """Least score of a detection that counts, fixed on true HR."""
        ...

    def find(self, image: Picture) -> Sequence[DetectionLike]:
        """Find defects in an (H, W) uint8 picture, down to scores far below the threshold."""
        ...


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A detection that hits no defect."""

    score: float
    is_border: bool


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Detections of one picture, matched with its defects.

    Attributes:
        hit_scores: Best score at each defect, in their order; `NOT_FOUND` where none hits.
        alarms: Detections that hit no defect.
    """

    hit_scores: tuple[float, ...]
    alarms: tuple[Alarm, ...]


def match(
    detections: Sequence[DetectionLike],
    defects: Sequence[Defect],
    *,
    shape: tuple[int, int],
    margin_px: float = MATCH_MARGIN_PX,
) -> Matches:
    """Match the detections of one picture of (H, W) pixels with its defects."""
    best = [NOT_FOUND] * len(defects)
    alarms = []
    for found in detections:
        hits = [
            number
            for number, defect in enumerate(defects)
            if _reaches(defect.box_hr_px, found.x_px, found.y_px, margin_px)
        ]
        for number in hits:
            best[number] = max(best[number], float(found.score))
        if not hits:
            border = is_in_border(found.x_px, found.y_px, shape=shape)
            alarms.append(Alarm(score=float(found.score), is_border=border))
    return Matches(hit_scores=tuple(best), alarms=tuple(alarms))


def is_in_border(x_px: float, y_px: float, *, shape: tuple[int, int]) -> bool:
    """Return whether a point lies in the outer band of an (H, W) picture."""
    height, width = shape
    return min(x_px, y_px, width - x_px, height - y_px) < BORDER_PX


def touches_border(defect: Defect, *, shape: tuple[int, int]) -> bool:
    """Return whether a defect's box, grown by the matching margin, touches the outer band."""
    height, width = shape
    left, top, right, bottom = defect.box_hr_px
    return min(left, top, width - right, height - bottom) < BORDER_PX + MATCH_MARGIN_PX


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Detection scores of one method over a set of tiles.

    Attributes:
        hits: (D,) best score of each defect, `NOT_FOUND` where there is none.
        hit_tiles: (D,) number of the defect's tile among the tiles with defects.
        alarms: (A,) scores of the alarms on tiles without defects.
        alarm_tiles: (A,) number of the alarm's tile among the tiles without defects.
        num_hit_tiles: Tiles with defects.
        num_alarm_tiles: Tiles without.
    """

    hits: NDArray[np.float64]
    hit_tiles: NDArray[np.int64]
    alarms: NDArray[np.float64]
    alarm_tiles: NDArray[np.int64]
    num_hit_tiles: int
    num_alarm_tiles: int

    def recall(self, threshold: float) -> float:
        """Return the share of defects with a score of at least `threshold`; NaN without any."""
        return float(np.mean(self.hits >= threshold)) if self.hits.size else float("nan")

    def threshold_at(self, alarms_per_tile: float) -> float:
        """Return the lowest threshold at which the rate of false alarms is at most the given one.

        It lies just above the first alarm that would exceed the rate.
        """
        allowed = int(np.floor(alarms_per_tile * self.num_alarm_tiles + 1e-9))
        if allowed >= self.alarms.size:
            return 0.0
        return float(np.nextafter(np.sort(self.alarms)[::-1][allowed], np.inf))

    def recall_at(self, alarms_per_tile: float) -> float:
        """Return the recall at `threshold_at` the given rate."""
        return self.recall(self.threshold_at(alarms_per_tile))


def froc_curve(scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return alarms a tile, (A + 1,) rising from 0, and the recall reached at each of them."""
    alarms = np.sort(scores.alarms)[::-1]
    thresholds = np.append(np.nextafter(alarms, np.inf), 0.0)
    hits = np.sort(scores.hits)
    recall = 1.0 - np.searchsorted(hits, thresholds) / max(hits.size, 1)
    return np.arange(alarms.size + 1) / max(scores.num_alarm_tiles, 1), recall


def froc_area(
    scores: Scores,
    *,
    hit_weights: NDArray[np.float64] | None = None,
    alarm_weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the exact mean recall over 0 to 1 false alarm per tile, for B weightings of tiles.

    Args:
        scores: Scores of one method.
        hit_weights: (B, tiles with defects) weight of each tile in each of B samples; ones if None.
        alarm_weights: (B, tiles without); ones if None.

    Returns:
        (B,) areas in 0 to 1; NaN where there are no defects or no tiles to count alarms on.
    """
    if scores.num_alarm_tiles == 0 or scores.hits.size == 0:
        return np.full(1 if hit_weights is None else len(hit_weights), np.nan)
    if hit_weights is None:
        hit_weights = np.ones((1, scores.num_hit_tiles))
    if alarm_weights is None:
        alarm_weights = np.ones((1, scores.num_alarm_tiles))
    # Far more alarms than tiles lie past a rate of 1 in every sample: leave them out.
    kept = np.argsort(scores.alarms)[::-1][: 4 * scores.num_alarm_tiles]
    alarms, of_alarms = scores.alarms[kept], alarm_weights[:, scores.alarm_tiles[kept]]
    order = np.argsort(scores.hits)[::-1]
    hits, of_hits = scores.hits[order], hit_weights[:, scores.hit_tiles[order]]

    total = alarm_weights.sum(axis=1, keepdims=True)
    stops = np.minimum(np.cumsum(of_alarms, axis=1), total)
    widths = np.diff(stops, axis=1, prepend=0.0) / total
    found = np.cumsum(of_hits, axis=1)
    # A sample may have drawn no tile that holds one of these defects: NaN there.
    total_hits = np.where(found[:, -1:] > 0, found[:, -1:], np.nan)
    recall = np.concatenate([np.zeros((len(found), 1)), found], axis=1) / total_hits
    # Up to an alarm's place on the axis, the threshold is just above its score.
    above = np.searchsorted(-hits, -alarms, side="left")
    # What is left of the axis after the last alarm is reached with every detection taken.
    rest = 1.0 - widths.sum(axis=1)
    every = recall[:, np.count_nonzero(hits > NOT_FOUND)]
    return (widths * recall[:, above]).sum(axis=1) + rest * every


def _reaches(box: Box, x_px: float, y_px: float, margin_px: float) -> bool:
    left, top, right, bottom = box
    return (
        left - margin_px <= x_px <= right + margin_px
        and top - margin_px <= y_px <= bottom + margin_px
    )
