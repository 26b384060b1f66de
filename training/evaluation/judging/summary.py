"""Summary of a method: its figures over all tiles, with bootstrap samples for intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.judging.bootstrap import Estimate
from training.evaluation.judging.detection_summary import collect_scores, detection_figures
from training.evaluation.judging.evaluation_set import (
    EvaluationSet,
    mean_estimate,
    median_estimate,
    where,
)
from training.evaluation.measures import background
from training.evaluation.measures.detection import Scores
from training.evaluation.measures.flat_grain import grain_by_scene
from training.evaluation.measures.gradients import (
    GRADIENT_BINS,
    GRADIENT_LIMIT,
    histogram_quantiles,
)
from training.evaluation.measures.kernel_distance import kernel_distance
from training.evaluation.sets.measurement import CleanTile, DefectTile
from training.evaluation.sets.reference import Reference

CONTRAST_RANGE = (0.8, 1.2)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MethodSummary:
    """All figures of one method.

    Attributes:
        figures: Figures by key, see `figures.FIGURES`; only the measurable ones.
        recall_by_kind: Kind of defect to (recall, number of defects).
        scores: Detection scores, for FROC curves.
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
        truth: Measurements of the true HR of `test.clean`.
        reference: Measurements of `reference_hr`.
    """
    kinds = [item.kind for tile in test.defect for item in tile.defects]
    hits = np.array([score for tile in defect for score in tile.hit_scores])
    scores = collect_scores(test, defect, clean)
    figures = detection_figures(test, scores, defect, clean)
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
                float(np.mean(hits[where(kinds, kind)] >= test.threshold)),
                int(where(kinds, kind).sum()),
            )
            for kind in sorted(set(kinds))
        },
        scores=scores,
        spectra=background.mean_by_scene(spectra, scenes) if clean else {},
    )


def _defects(
    test: EvaluationSet, defect: Sequence[DefectTile], tiles: NDArray[np.int64]
) -> dict[str, Estimate]:
    groups = [item.group for tile in test.defect for item in tile.defects]
    unseen = ~where(groups, "planted")
    ratios = np.array([value for tile in defect for value in tile.contrast_ratios], dtype=float)
    correlations = np.array([value for tile in defect for value in tile.correlations], dtype=float)
    if correlations.size == 0:
        return {}
    weights = test.draws.defect[:, tiles]
    in_range = (ratios >= CONTRAST_RANGE[0]) & (ratios <= CONTRAST_RANGE[1])
    return {
        "contrast_ratio": median_estimate(ratios, weights),
        "contrast_ratio_unseen": median_estimate(np.where(unseen, ratios, np.nan), weights),
        "contrast_in_range": mean_estimate(np.where(np.isnan(ratios), np.nan, in_range), weights),
        "correlation": mean_estimate(correlations, weights),
        "correlation_unseen": mean_estimate(np.where(unseen, correlations, np.nan), weights),
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
    figures["noise_ratio"] = mean_estimate(np.array(ratios, dtype=float), test.draws.clean)
    grains = np.array([tile.edge_grain for tile in clean], dtype=float)
    figures["edge_grain"] = mean_estimate(grains, test.draws.clean)
    known = np.array([tile.flat_power is not None for tile in clean])
    powers = np.array([tile.flat_power for tile in clean if tile.flat_power is not None])
    places = [scene for scene, is_known in zip(scenes, known, strict=True) if is_known]
    figures["flat_grain_db"] = Estimate(
        value=float(grain_by_scene(powers, places, reference.flat_power)[0]),
        samples=grain_by_scene(
            powers, places, reference.flat_power, weights=test.draws.clean[:, known]
        ),
    )
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
        "thinness": mean_estimate(np.array([tile.thinness for tile in clean]), test.draws.clean),
        "flat_ratio": mean_estimate(np.array(ratios), test.draws.clean),
    }


def _edges(test: EvaluationSet, clean: Sequence[CleanTile]) -> dict[str, Estimate]:
    found = [(number, tile.edges) for number, tile in enumerate(clean) if tile.edges is not None]
    if not found:
        return {}
    weights = test.draws.clean[:, [number for number, _ in found]]
    edges = [item for _, item in found]
    return {
        "edge_placement_px": median_estimate(
            np.array([item.placement_px for item in edges]), weights
        ),
        "edge_placement_p95_px": median_estimate(
            np.array([item.placement_p95_px for item in edges]), weights
        ),
        "shift_px": mean_estimate(np.array([item.shift_px for item in edges]), weights),
        "cd_bias_px": mean_estimate(np.array([item.cd_bias_px for item in edges]), weights),
        "roughness_ratio": median_estimate(
            np.array([item.roughness_ratio for item in edges]), weights
        ),
        "lost_edges": mean_estimate(np.array([item.lost_share for item in edges]), weights),
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
        "consistency": mean_estimate(
            np.array([tile.consistency_mean for tile in tiles], float), weights
        ),
        "consistency_worst": Estimate(value=float(np.nanmin(worst))),
    }
