"""Puts the tiles of a method together: every figure of `figures`, with samples for intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation import background
from training.evaluation.benchmark import Tile
from training.evaluation.bootstrap import Draws, Estimate, weighted_mean, weighted_median
from training.evaluation.detection import Scores, froc_area, touches_border
from training.evaluation.gradients import GRADIENT_BINS, GRADIENT_LIMIT, histogram_quantiles
from training.evaluation.kernel_distance import kernel_distance
from training.evaluation.measurement import CleanTile, DefectTile
from training.evaluation.reference import Reference

CONTRAST_RANGE = (0.8, 1.2)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """The tiles that all methods are measured on, and how they are drawn again.

    Attributes:
        defect: Tiles with defects.
        clean: Tiles without.
        draws: Bootstrap weights.
        shape: (H, W) of an HR picture.
        threshold: The detector's.
    """

    defect: tuple[Tile, ...]
    clean: tuple[Tile, ...]
    draws: Draws
    shape: tuple[int, int]
    threshold: float


@dataclass(frozen=True, kw_only=True)
class MethodSummary:
    """All figures of one method.

    Attributes:
        figures: By key, see `figures.FIGURES`; those that cannot be measured are left out.
        recall_by_kind: Kind of defect to (recall, number of defects).
        scores: For FROC curves.
        spectra: Scene kind to mean spectrum in dB.
    """

    figures: dict[str, Estimate]
    recall_by_kind: dict[str, tuple[float, int]]
    scores: Scores
    spectra: dict[str, Floats]


def summarise(
    test: EvaluationSet,
    defect: Sequence[DefectTile],
    clean: Sequence[CleanTile],
    *,
    truth: Sequence[CleanTile],
    reference: Reference,
) -> MethodSummary:
    """Compute every figure of one method.

    Args:
        test: The tiles.
        defect: The method's measurements of `test.defect`, in order.
        clean: The method's measurements of `test.clean`, in order.
        truth: Those of the true HR of `test.clean`.
        reference: What `reference_hr` measures.
    """
    kinds = [item.kind for tile in test.defect for item in tile.defects]
    hits = np.array([score for tile in defect for score in tile.hit_scores])
    scores = _scores(test, defect, clean)
    figures = _detection(test, scores, defect, clean)
    figures |= _defects(test, defect, scores.hit_tiles)
    scenes = [tile.scene for tile in test.clean]
    if clean:
        figures |= _background(test, clean, scenes, reference)
        figures |= _gradients(test, clean, truth)
        figures |= _edges(test, clean)
    figures |= _consistency(test, defect, clean)
    spectra = np.array([tile.spectrum_db for tile in clean])
    return MethodSummary(
        figures={key: item for key, item in figures.items() if np.isfinite(item.value)},
        recall_by_kind={
            kind: (
                float(np.mean(hits[_where(kinds, kind)] >= test.threshold)),
                int(_where(kinds, kind).sum()),
            )
            for kind in sorted(set(kinds))
        },
        scores=scores,
        spectra=background.mean_by_scene(spectra, scenes) if clean else {},
    )


def _scores(
    test: EvaluationSet, defect: Sequence[DefectTile], clean: Sequence[CleanTile]
) -> Scores:
    counts = [len(tile.hit_scores) for tile in defect]
    return Scores(
        hits=np.array([score for tile in defect for score in tile.hit_scores]),
        hit_tiles=np.repeat(np.arange(len(defect)), counts),
        alarms=np.array([score for tile in clean for score in tile.alarm_scores]),
        alarm_tiles=np.repeat(np.arange(len(clean)), [len(tile.alarm_scores) for tile in clean]),
        num_hit_tiles=len(test.defect),
        num_alarm_tiles=len(test.clean),
    )


def _detection(
    test: EvaluationSet, scores: Scores, defect: Sequence[DefectTile], clean: Sequence[CleanTile]
) -> dict[str, Estimate]:
    defects = [item for tile in test.defect for item in tile.defects]
    groups = [item.group for item in defects]
    unseen = _where(groups, "unseen")
    subsets = {
        "recall": np.ones(len(defects), dtype=bool),
        "recall_unseen": unseen,
        "recall_planted": _where(groups, "planted"),
        "recall_border": np.array([touches_border(d, shape=test.shape) for d in defects], bool),
    }
    found = (scores.hits >= test.threshold).astype(np.float64)
    weights = test.draws.defect[:, scores.hit_tiles]
    figures = {
        key: _mean(np.where(chosen, found, np.nan), weights)
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
        figures[key] = _mean(np.array(counts, dtype=np.float64), test.draws.clean)
    stray = [sum(score >= test.threshold for score in tile.alarm_scores) for tile in defect]
    figures["stray_alarms_per_tile"] = _mean(np.array(stray, dtype=np.float64), test.draws.defect)
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


def _defects(
    test: EvaluationSet, defect: Sequence[DefectTile], tiles: NDArray[np.int64]
) -> dict[str, Estimate]:
    groups = [item.group for tile in test.defect for item in tile.defects]
    unseen = _where(groups, "unseen")
    ratios = np.array([value for tile in defect for value in tile.contrast_ratios], dtype=float)
    correlations = np.array([value for tile in defect for value in tile.correlations], dtype=float)
    if correlations.size == 0:
        return {}
    weights = test.draws.defect[:, tiles]
    in_range = (ratios >= CONTRAST_RANGE[0]) & (ratios <= CONTRAST_RANGE[1])
    return {
        "contrast_ratio": _median(ratios, weights),
        "contrast_ratio_unseen": _median(np.where(unseen, ratios, np.nan), weights),
        "contrast_in_range": _mean(np.where(np.isnan(ratios), np.nan, in_range), weights),
        "correlation": _mean(correlations, weights),
        "correlation_unseen": _mean(np.where(unseen, correlations, np.nan), weights),
        "correlation_min": Estimate(value=float(np.nanmin(correlations))),
    }


def _background(
    test: EvaluationSet, clean: Sequence[CleanTile], scenes: Sequence[str], reference: Reference
) -> dict[str, Estimate]:
    figures = {}
    for key, spectra, expected in (
        ("spectrum_db", [tile.spectrum_db for tile in clean], reference.spectra),
        ("border_spectrum_db", [tile.border_spectrum_db for tile in clean], reference.border),
    ):
        values = np.array(spectra)
        figures[key] = Estimate(
            value=float(background.distance_by_scene(values, scenes, expected)[0]),
            samples=background.distance_by_scene(
                values, scenes, expected, weights=test.draws.clean
            ),
        )
    ratios = [
        tile.noise_sigma / reference.noise_sigma[scene] if scene in reference.noise_sigma else None
        for tile, scene in zip(clean, scenes, strict=True)
    ]
    figures["noise_ratio"] = _mean(np.array(ratios, dtype=float), test.draws.clean)
    greys = [
        background.histogram_distance(
            np.array(
                [t.grey_counts for t, s in zip(clean, scenes, strict=True) if s == scene], float
            ).sum(axis=0),
            reference.grey_counts[scene],
        )
        for scene in sorted(set(scenes) & set(reference.grey_counts))
    ]
    figures["grey_distance"] = Estimate(value=float(np.mean(greys)) if greys else float("nan"))
    for key, own, others in (
        ("kernel_distance", [tile.centre_features for tile in clean], reference.centre_features),
        ("border_kernel_distance", [t.border_features for t in clean], reference.border_features),
    ):
        features = [values for values in own if values is not None]
        if others is not None and min(len(features), len(others)) >= 2:
            figures[key] = Estimate(value=kernel_distance(np.array(features), others))
    return figures


def _gradients(
    test: EvaluationSet, clean: Sequence[CleanTile], truth: Sequence[CleanTile]
) -> dict[str, Estimate]:
    own = np.array([tile.gradient_counts for tile in clean], dtype=np.float64).sum(axis=0)
    true = np.array([tile.gradient_counts for tile in truth], dtype=np.float64).sum(axis=0)
    quantiles = histogram_quantiles(own, (0.5, 0.95, 0.99))
    bin_width = GRADIENT_LIMIT / GRADIENT_BINS
    ratios = [
        tile.flat_gradient / other.flat_gradient if other.flat_gradient > 0 else np.nan
        for tile, other in zip(clean, truth, strict=True)
    ]
    return {
        "gradient_q50": Estimate(value=quantiles[0]),
        "gradient_q95": Estimate(value=quantiles[1]),
        "gradient_q99": Estimate(value=quantiles[2]),
        "gradient_distance": Estimate(value=bin_width * background.histogram_distance(own, true)),
        "thinness": _mean(np.array([tile.thinness for tile in clean]), test.draws.clean),
        "flat_ratio": _mean(np.array(ratios), test.draws.clean),
    }


def _edges(test: EvaluationSet, clean: Sequence[CleanTile]) -> dict[str, Estimate]:
    found = [(number, tile.edges) for number, tile in enumerate(clean) if tile.edges is not None]
    if not found:
        return {}
    weights = test.draws.clean[:, [number for number, _ in found]]
    edges = [item for _, item in found]
    return {
        "edge_placement_px": _median(np.array([item.placement_px for item in edges]), weights),
        "edge_placement_p95_px": _median(
            np.array([item.placement_p95_px for item in edges]), weights
        ),
        "shift_px": _mean(np.array([item.shift_px for item in edges]), weights),
        "cd_bias_px": _mean(np.array([item.cd_bias_px for item in edges]), weights),
        "roughness_ratio": _median(np.array([item.roughness_ratio for item in edges]), weights),
        "lost_edges": _mean(np.array([item.lost_share for item in edges]), weights),
    }


def _consistency(
    test: EvaluationSet, defect: Sequence[DefectTile], clean: Sequence[CleanTile]
) -> dict[str, Estimate]:
    tiles = [*defect, *clean]
    worst = np.array([tile.consistency_worst for tile in tiles], dtype=float)
    if not np.isfinite(worst).any():
        return {}
    weights = np.concatenate([test.draws.defect, test.draws.clean], axis=1)
    return {
        "consistency": _mean(np.array([tile.consistency_mean for tile in tiles], float), weights),
        "consistency_worst": Estimate(value=float(np.nanmin(worst))),
    }


def _mean(values: Floats, weights: Floats) -> Estimate:
    ones = np.ones((1, values.size))
    return Estimate(
        value=float(weighted_mean(values, ones)[0]), samples=weighted_mean(values, weights)
    )


def _median(values: Floats, weights: Floats) -> Estimate:
    ones = np.ones((1, values.size))
    return Estimate(
        value=float(weighted_median(values, ones)[0]), samples=weighted_median(values, weights)
    )


def _where(names: Sequence[str], wanted: str) -> NDArray[np.bool_]:
    return np.array([name == wanted for name in names], dtype=bool)
