"""Measurement of every method's picture of one benchmark tile.

A measurement reduces a picture to a few hundred numbers. Summaries, the bootstrap and the cache
therefore need no pictures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluation.folders.benchmark import Picture, Tile, read_png
from training.evaluation.measures.background import border_spectrum_db, radial_spectrum_db
from training.evaluation.measures.consistency import lr_consistency
from training.evaluation.measures.detection import DetectorLike, match
from training.evaluation.measures.edge_grain import edge_grain
from training.evaluation.measures.flat_grain import flat_power
from training.evaluation.measures.gradients import flat_area, measure_gradients
from training.evaluation.measures.kernel_distance import (
    MAX_PICTURES,
    FeatureNetwork,
    picture_features,
)
from training.evaluation.measures.metrology import EdgeFigures, find_true_edges, measure_edges
from training.evaluation.measures.structure import measure_structure
from training.ground.quality import noise_sigma

LINE_SCENES = frozenset({"dense_lines", "iso_lines"})
"""Scenes of parallel lines, which edge placement is measured on."""

MAX_GRAIN_TILES = 70
"""Tiles of a split whose grain at edges is measured: it costs a third of a second a picture."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Judge of pictures: the detector, and the feature network where there is one."""

    detector: DetectorLike
    features: FeatureNetwork | None = None


@dataclass(frozen=True, kw_only=True)
class DefectTile:
    """One method's picture of a tile with defects.

    Attributes:
        hit_scores: Best detection score at each defect, see `detection.Matches`.
        alarm_scores: Scores of the detections that hit none.
        contrast_ratios: Contrast ratio of each defect, see `structure.DefectStructure`.
        correlations: Correlation of each defect.
        consistency_mean: Mean of `consistency.LrConsistency`.
        consistency_worst: Worst of the same.
    """

    hit_scores: list[float]
    alarm_scores: list[float]
    contrast_ratios: list[float]
    correlations: list[float]
    consistency_mean: float
    consistency_worst: float


@dataclass(frozen=True, kw_only=True)
class CleanTile:
    """One method's picture of a tile without defects.

    Attributes:
        alarm_scores: Scores of all detections: every one is a false alarm.
        alarm_is_border: Whether each lies in the outer band.
        spectrum_db: `background.radial_spectrum_db` of the picture.
        border_spectrum_db: `background.border_spectrum_db` of the picture.
        grey_counts: (256,) histogram.
        noise_sigma: Grey levels, see `quality.noise_sigma`.
        edge_grain: Grain at edges; NaN where the tile has no edges or no flats, None beyond the
            first `MAX_GRAIN_TILES` tiles.
        flat_power: `flat_grain.flat_power` of the picture; None beyond the same tiles.
        gradient_counts: Histogram of `gradients.GradientFigures`.
        thinness: Thinness of the same.
        flat_gradient: Mean gradient of flat areas of the same.
        edges: Figures of edges, on line scenes with a noise-free truth.
        centre_features: Features of the first tiles, where there is a feature network.
        border_features: Features of the border in the same way.
        consistency_mean: Mean of `consistency.LrConsistency`.
        consistency_worst: Worst of the same.
    """

    alarm_scores: list[float]
    alarm_is_border: list[bool]
    spectrum_db: list[float]
    border_spectrum_db: list[float]
    grey_counts: list[int]
    noise_sigma: float
    edge_grain: float | None
    flat_power: list[list[float]] | None
    gradient_counts: list[int]
    thinness: float
    flat_gradient: float
    edges: EdgeFigures | None
    centre_features: list[float] | None
    border_features: list[float] | None
    consistency_mean: float
    consistency_worst: float


Measured = DefectTile | CleanTile


def measure_tile(
    tile: Tile, pictures: Mapping[str, Picture | None], judge: Judge
) -> dict[str, Measured]:
    """Measure every method's picture of one tile; its truth is read once.

    Args:
        tile: Tile of a test split.
        pictures: Method name to (s*h, s*w) uint8, or None for the true HR itself.
        judge: Detector and feature network.

    Returns:
        `DefectTile` for each method where the tile has defects, else `CleanTile`.

    Raises:
        BenchmarkError: A picture of the truth is missing.
        ValueError: A method's picture has another size than the true HR.
    """
    lr, hr = tile.lr(), tile.hr()
    given = {name: hr if picture is None else picture for name, picture in pictures.items()}
    for name, picture in given.items():
        if picture.shape != hr.shape or picture.dtype != np.uint8:
            raise ValueError(
                f"{name} gave {picture.shape} {picture.dtype} for {tile.key}, expected {hr.shape} "
                "uint8"
            )
    if tile.mask_path is not None:
        mask = read_png(tile.mask_path)
        return {
            name: _defect_tile(tile, picture, lr=lr, hr=hr, mask=mask, judge=judge)
            for name, picture in given.items()
        }
    flat, number = flat_area(hr), int(tile.name)
    true_edges = None
    if tile.noise_free_path is not None and tile.scene in LINE_SCENES:
        true_edges = find_true_edges(read_png(tile.noise_free_path))
    measured: dict[str, Measured] = {}
    for name, picture in given.items():
        detections = match(judge.detector.find(picture), (), shape=hr.shape)
        gradients = measure_gradients(picture, flat)
        features = None
        if judge.features is not None and number < MAX_PICTURES:
            features = picture_features(picture, judge.features, number=number)
        consistency = lr_consistency(picture, lr)
        measured[name] = CleanTile(
            alarm_scores=[alarm.score for alarm in detections.alarms],
            alarm_is_border=[alarm.is_border for alarm in detections.alarms],
            spectrum_db=_short(radial_spectrum_db(picture)),
            border_spectrum_db=_short(border_spectrum_db(picture)),
            grey_counts=np.bincount(picture.ravel(), minlength=256).tolist(),
            noise_sigma=noise_sigma(picture),
            edge_grain=edge_grain(picture).ratio if number < MAX_GRAIN_TILES else None,
            flat_power=flat_power(picture).tolist() if number < MAX_GRAIN_TILES else None,
            gradient_counts=gradients.histogram.tolist(),
            thinness=gradients.thinness,
            flat_gradient=gradients.flat_mean,
            edges=None if true_edges is None else measure_edges(picture, true_edges),
            centre_features=None if features is None else _short(features.centre),
            border_features=None if features is None else _short(features.border),
            consistency_mean=consistency.mean,
            consistency_worst=consistency.worst,
        )
    return measured


def measured_from(values: dict[str, Any]) -> Measured:
    """Rebuild a measurement from what `dataclasses.asdict` made of it."""
    if "hit_scores" in values:
        return DefectTile(**values)
    edges = values["edges"]
    return CleanTile(**{**values, "edges": None if edges is None else EdgeFigures(**edges)})


def _defect_tile(
    tile: Tile, picture: Picture, *, lr: Picture, hr: Picture, mask: Picture, judge: Judge
) -> DefectTile:
    matches = match(judge.detector.find(picture), tile.defects, shape=(hr.shape[0], hr.shape[1]))
    structure = measure_structure(picture, hr, mask, tile.defects)
    consistency = lr_consistency(picture, lr)
    return DefectTile(
        hit_scores=list(matches.hit_scores),
        alarm_scores=[alarm.score for alarm in matches.alarms],
        contrast_ratios=[item.contrast_ratio for item in structure],
        correlations=[item.correlation for item in structure],
        consistency_mean=consistency.mean,
        consistency_worst=consistency.worst,
    )


def _short(values: np.ndarray) -> list[float]:
    """Keep six digits: a cache is read far more often than its last digits matter."""
    return [float(f"{value:.6g}") for value in values.tolist()]
