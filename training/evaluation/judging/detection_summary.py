"""Detection figures of one method: recall, false alarms, FROC area."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.evaluation.judging.bootstrap import Estimate
from training.evaluation.judging.evaluation_set import EvaluationSet, mean_estimate, where
from training.evaluation.measures.detection import Scores, froc_area, touches_border
from training.evaluation.sets.measurement import CleanTile, DefectTile


def collect_scores(
    test: EvaluationSet, defect: Sequence[DefectTile], clean: Sequence[CleanTile]
) -> Scores:
    """Collect the detection scores of all tiles of a method."""
    counts = [len(tile.hit_scores) for tile in defect]
    return Scores(
        hits=np.array([score for tile in defect for score in tile.hit_scores]),
        hit_tiles=np.repeat(np.arange(len(defect)), counts),
        alarms=np.array([score for tile in clean for score in tile.alarm_scores]),
        alarm_tiles=np.repeat(np.arange(len(clean)), [len(tile.alarm_scores) for tile in clean]),
        num_hit_tiles=len(test.defect),
        num_alarm_tiles=len(test.clean),
    )


def detection_figures(
    test: EvaluationSet, scores: Scores, defect: Sequence[DefectTile], clean: Sequence[CleanTile]
) -> dict[str, Estimate]:
    """Compute one method's figures of the section `detection`."""
    defects = [item for tile in test.defect for item in tile.defects]
    groups = [item.group for item in defects]
    unseen = ~where(groups, "planted")  # the kinds of the split `unknown` too
    subsets = {
        "recall": np.ones(len(defects), dtype=bool),
        "recall_unseen": unseen,
        "recall_planted": where(groups, "planted"),
        "recall_border": np.array([touches_border(d, shape=test.shape) for d in defects], bool),
    }
    found = (scores.hits >= test.threshold).astype(np.float64)
    weights = test.draws.defect[:, scores.hit_tiles]
    figures = {
        key: mean_estimate(np.where(chosen, found, np.nan), weights)
        for key, chosen in subsets.items()
        if chosen.any()
    }
    for key, only_border in (("alarms_per_tile", False), ("border_alarms_per_tile", True)):
        counts = [
            sum(
                score >= test.threshold and (is_border or not only_border)
                for score, is_border in zip(tile.alarm_scores, tile.alarm_is_border, strict=True)
            )
            for tile in clean
        ]
        figures[key] = mean_estimate(np.array(counts, dtype=np.float64), test.draws.clean)
    stray = [sum(score >= test.threshold for score in tile.alarm_scores) for tile in defect]
    figures["stray_alarms_per_tile"] = mean_estimate(
        np.array(stray, dtype=np.float64), test.draws.defect
    )
    if scores.hits.size and clean:
        figures["recall_at_0.1"] = Estimate(value=scores.recall_at(0.1))
    figures["froc_area"] = _froc(test, scores)
    if unseen.any():
        figures["froc_area_unseen"] = _froc(test, select_hits(scores, unseen))
    return figures


def select_hits(scores: Scores, chosen: NDArray[np.bool_]) -> Scores:
    """Keep the scores of some defects, and all alarms."""
    return Scores(
        hits=scores.hits[chosen],
        hit_tiles=scores.hit_tiles[chosen],
        alarms=scores.alarms,
        alarm_tiles=scores.alarm_tiles,
        num_hit_tiles=scores.num_hit_tiles,
        num_alarm_tiles=scores.num_alarm_tiles,
    )


def _froc(test: EvaluationSet, scores: Scores) -> Estimate:
    samples = froc_area(scores, hit_weights=test.draws.defect, alarm_weights=test.draws.clean)
    return Estimate(value=float(froc_area(scores)[0]), samples=samples)
