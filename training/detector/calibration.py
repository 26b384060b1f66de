"""Calibration of the detector's threshold, and its recall there, on unseen simulated tiles."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.detector.detector import Detector
from training.detector.network import CELL_PX
from training.detector.peaks import Detection
from training.detector.tiles import LabelledTile
from training.ground.progress import tracked

ALARMS_PER_TILE = 0.1
HIT_PX = 12.0
"""A detection finds a defect where its centre lies at most this far from the defect's pixels."""

HIGHEST_SCORE = 1.0


@dataclass(frozen=True)
class Calibration:
    """Threshold of a detector, with its false alarms and recall on simulated review tiles.

    Attributes:
        threshold: Score from which on a detection is an alarm.
        alarms_per_tile: False alarms on the clean tiles at the threshold.
        clean_tiles: Number of clean tiles.
        defect_tiles: Number of tiles with defects.
        defects: Number of defects in them.
        recall: Share of them with a detection at or above the threshold.
        recall_by_kind: The same by kind of defect, and by scene.
        recall_by_scene: The same by kind of scene.
        alarms_by_scene: False alarms on the clean tiles, counts.
        recall_at_alarms: Recall where the threshold allowed other rates: 0.03, 0.3 and 1 a tile.
    """

    threshold: float
    alarms_per_tile: float
    clean_tiles: int
    defect_tiles: int
    defects: int
    recall: float
    recall_by_kind: dict[str, float]
    recall_by_scene: dict[str, float]
    alarms_by_scene: dict[str, int]
    recall_at_alarms: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, rounded for reading."""
        return {
            key: value if key == "threshold" else _rounded(value)
            for key, value in asdict(self).items()
        }


def calibrate(
    detector: Detector,
    *,
    clean: Sequence[LabelledTile],
    with_defects: Sequence[LabelledTile],
    alarms_per_tile: float = ALARMS_PER_TILE,
) -> Calibration:
    """Find the threshold for a rate of false alarms, and measure recall at it.

    Args:
        detector: Detector, whose own threshold is neither used nor changed.
        clean: Tiles without defects, some hundreds.
        with_defects: Tiles with defects.
        alarms_per_tile: False alarms that are allowed on a clean tile, on average.

    Raises:
        ValueError: There are no clean tiles, one of them has a defect, or nothing to find.
    """
    if not clean or any(tile.cells.any() for tile in clean):
        raise ValueError(f"calibration needs clean tiles, without defects; got {len(clean)} tiles")
    alarms = [
        (tile.scene, found.score)
        for tile in tracked(clean, "judging clean tiles")
        for found in detector.find(tile.hr)
    ]
    scores = [score for _, score in alarms]
    judged = tracked(with_defects, "judging tiles with defects")
    hits = [hit for tile in judged for hit in _hits(detector, tile)]
    if not hits:
        raise ValueError(f"calibration needs defects; {len(with_defects)} tiles have none")
    threshold = threshold_for(scores, tiles=len(clean), alarms_per_tile=alarms_per_tile)
    rates = (0.03, 0.3, 1.0)
    return Calibration(
        threshold=threshold,
        alarms_per_tile=sum(score >= threshold for score in scores) / len(clean),
        clean_tiles=len(clean),
        defect_tiles=len(with_defects),
        defects=len(hits),
        recall=_recall(hits, threshold),
        recall_by_kind={
            kind: _recall([hit for hit in hits if hit.kind == kind], threshold)
            for kind in sorted({hit.kind for hit in hits})
        },
        recall_by_scene={
            scene: _recall([hit for hit in hits if hit.scene == scene], threshold)
            for scene in sorted({hit.scene for hit in hits})
        },
        alarms_by_scene=dict(Counter(scene for scene, score in alarms if score >= threshold)),
        recall_at_alarms={
            str(rate): _recall(hits, threshold_for(scores, tiles=len(clean), alarms_per_tile=rate))
            for rate in rates
        },
    )


def threshold_for(scores: Sequence[float], *, tiles: int, alarms_per_tile: float) -> float:
    """Return the lowest score that leaves at most `alarms_per_tile` false alarms a tile.

    An alarm is a score at or above the threshold. Where all the scores are allowed, the threshold
    is the least of them (or 1 without any): nothing is known of lower ones.

    Args:
        scores: Scores of all false detections, in any order.
        tiles: Number of clean tiles that they come from.
        alarms_per_tile: False alarms allowed a tile, at least 0.
    """
    falling = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    # A hair's breadth more than the product, which may fall just below a whole number.
    allowed = int(tiles * alarms_per_tile + 1e-9)
    if allowed < len(falling):
        return float(np.nextafter(falling[allowed], np.inf))
    return float(falling[-1]) if len(falling) else HIGHEST_SCORE


@dataclass(frozen=True)
class _Hit:
    """A defect and the best score of its detections; 0 without any."""

    kind: str
    scene: str
    score: float


def _hits(detector: Detector, tile: LabelledTile) -> list[_Hit]:
    found = detector.find(tile.hr)
    return [
        _Hit(kind, tile.scene, _best_score(found, tile.cells == number))
        for number, kind in enumerate(tile.kinds, start=1)
    ]


def _best_score(found: Sequence[Detection], defect: NDArray[np.bool_]) -> float:
    if not defect.any():
        return 0.0
    distance_px = CELL_PX * np.asarray(ndimage.distance_transform_edt(~defect))
    rows, columns = defect.shape
    near = [
        detection.score
        for detection in found
        if distance_px[
            min(int(detection.y_px / CELL_PX), rows - 1),
            min(int(detection.x_px / CELL_PX), columns - 1),
        ]
        <= HIT_PX
    ]
    return max(near, default=0.0)


def _recall(hits: Sequence[_Hit], threshold: float) -> float:
    return sum(hit.score >= threshold for hit in hits) / len(hits)


def _rounded(value: Any) -> Any:  # noqa: ANN401 - plain JSON values of several types
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value
