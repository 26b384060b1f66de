"""Measurement of a fab's own tiles: LR pictures of its fast scan, and HR pictures of other places.

Without a known truth, these figures cannot show whether defects are found. They show the following:

- With LR alone: the consistency of the picture with the tile, its outlines and its edge grain, and
  the model's trust flags (residual and domain distance, each over the bundle's limit).
- With HR: the similarity of backgrounds (spectrum, noise, greys, kernel distance). The HR pictures
  must show the same kinds of places at the output's magnification.
- With pairs of one field: see `own_pairs`.
- With the fab's own detector: the number of its detections.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.compared.methods import Method
from training.evaluation.folders.benchmark import Picture
from training.evaluation.folders.real_folders import RealPair
from training.evaluation.measures.consistency import lr_consistency
from training.evaluation.measures.detection import DetectorLike
from training.evaluation.measures.edge_grain import edge_grain, mean_edge_grain
from training.evaluation.measures.kernel_distance import FeatureNetwork
from training.evaluation.measures.outline_counts import count_outlines
from training.evaluation.sets.own_pairs import OwnPairFigures, measure_own_pairs
from training.evaluation.sets.set_look import SetLook, set_distances
from training.ground.progress import tracked

MIN_LR_SIDE_PX = 48
MIN_HR_SIDE_PX = 96
"""Least sides of the pictures, for the spectra and the crops of the feature network."""

LIMIT = 1.0
"""Limit of a trust flag, which is a value divided by the bundle's limit."""


@dataclass(frozen=True, kw_only=True)
class OwnTiles:
    """Pictures of a fab's tool, read like training images.

    Attributes:
        lr: Name to (h, w) uint8, any sizes.
        hr: (H, W) uint8 of other places; empty where there are none.
        pairs: LR and HR pictures of one field; empty where there are none.
    """

    lr: Mapping[str, Picture]
    hr: Sequence[Picture] = ()
    pairs: Sequence[RealPair] = ()


@dataclass(frozen=True, kw_only=True)
class OwnTile:
    """Measurements of one tile by one method.

    Attributes:
        name: File of the LR tile.
        method: Name of the method.
        consistency: Mean local correlation of the picture, seen coarsely, with the LR tile; NaN
            where the tile has no structure.
        consistency_worst: 1 % quantile of the same.
        residual: Flag `residual` over the bundle's limit; None where the model has none.
        domain_distance: Flag `domain_distance` in the same way.
        edge_grain: Grain at edges; NaN where there are no edges or no flats.
        outlines_lost: Outlines of the tile that the answer lacks, see `outlines`.
        outlines_lost_px: Length of the lost outlines in LR pixels.
        outlines_invented: Outlines of the answer that the tile does not show.
        detections: Number of detections of the fab's own detector; None without one.
    """

    name: str
    method: str
    consistency: float
    consistency_worst: float
    residual: float | None
    domain_distance: float | None
    edge_grain: float
    outlines_lost: int
    outlines_lost_px: float
    outlines_invented: int
    detections: int | None


@dataclass(frozen=True, kw_only=True)
class OwnFigures:
    """Figures of one method over all tiles; a figure without its inputs is None.

    Attributes:
        method: Name of the method.
        tiles: Number of LR tiles.
        consistency: Mean over tiles with structure; NaN where none has.
        consistency_worst: Least of the tiles' 1 % quantiles.
        residual_share: Share of tiles whose residual is above the limit.
        domain_share: Share of tiles that lie farther from the training's domain than the limit.
        domain_median: Median distance from the domain over the limit.
        spectrum_db: Log-spectral distance of the mean spectra of output and HR, dB.
        border_spectrum_db: The same along the border.
        noise_ratio: Mean white-noise deviation over that of HR.
        grey_distance: Wasserstein distance of the grey histograms, grey levels.
        edge_grain: Mean grain along edges over that of flats.
        flat_grain_db: Difference of the grain of flats from that of HR at equal greys, see
            `flat_grain`; NaN where no grey is in both.
        outlines_lost: Number of outlines that the tiles show and the answers lack.
        outlines_lost_px: Length of the lost outlines in LR pixels.
        outlines_invented: Number of outlines that the answers show and the tiles do not.
        detections_per_tile: Detections of the fab's own detector; None without one.
        kernel_distance: Distance of VGG16 features, see `kernel_distance`.
        border_kernel_distance: The same of the outer 16 px.
    """

    method: str
    tiles: int
    consistency: float
    consistency_worst: float
    residual_share: float | None
    domain_share: float | None
    domain_median: float | None
    spectrum_db: float | None
    border_spectrum_db: float | None
    noise_ratio: float | None
    grey_distance: float | None
    edge_grain: float
    flat_grain_db: float | None
    outlines_lost: int
    outlines_lost_px: float
    outlines_invented: int
    detections_per_tile: float | None
    kernel_distance: float | None
    border_kernel_distance: float | None


@dataclass(frozen=True, kw_only=True)
class OwnReport:
    """Everything measured on own tiles.

    Attributes:
        lr_tiles: Number of LR tiles.
        hr_pictures: Number of HR pictures.
        figures: Rows, one a method.
        tiles: Rows, one a tile and method.
        pairs: Rows, one a method, where there are pairs.
        floors: Key of a figure to what HR itself shows: two random halves of the HR pictures
            against each other, their edge grain, their detections a tile.
    """

    lr_tiles: int
    hr_pictures: int
    figures: tuple[OwnFigures, ...]
    tiles: tuple[OwnTile, ...]
    pairs: tuple[OwnPairFigures, ...]
    floors: dict[str, float]


def measure_own(
    own: OwnTiles,
    methods: Sequence[Method],
    *,
    features: FeatureNetwork | None = None,
    detector: DetectorLike | None = None,
) -> OwnReport:
    """Measure every method with `upscale` on a fab's own tiles.

    Args:
        own: Pictures of the fab's tool.
        methods: Methods to compare; those without `upscale` are left out.
        features: Network of the kernel distance; None leaves it out.
        detector: The fab's own; None leaves its figures out.
    """
    reference = SetLook.of("measuring HR", own.hr, features) if own.hr else None
    figures: list[OwnFigures] = []
    tiles: list[OwnTile] = []
    for method in methods:
        if method.upscale is not None:
            rows, look = _measure(own, method, reference, features, detector)
            tiles += rows
            figures.append(_figures(method, rows, look, reference))
    return OwnReport(
        lr_tiles=len(own.lr),
        hr_pictures=len(own.hr),
        figures=tuple(figures),
        tiles=tuple(tiles),
        pairs=tuple(measure_own_pairs(own.pairs, methods, detector=detector)),
        floors={} if reference is None else {**reference.floors(), **_of_hr(own.hr, detector)},
    )


def _of_hr(pictures: Sequence[Picture], detector: DetectorLike | None) -> dict[str, float]:
    found = {"edge_grain": mean_edge_grain(pictures)}
    if detector is not None:
        counts = [_detections(detector, picture) for picture in pictures]
        found["detections_per_tile"] = float(np.mean(counts))
    return {key: value for key, value in found.items() if np.isfinite(value)}


def _detections(detector: DetectorLike, picture: Picture) -> int:
    return sum(item.score >= detector.threshold for item in detector.find(picture))


def _measure(
    own: OwnTiles,
    method: Method,
    reference: SetLook | None,
    features: FeatureNetwork | None,
    detector: DetectorLike | None,
) -> tuple[list[OwnTile], SetLook]:
    rows = []
    look = SetLook(features)
    for name, lr in tracked(own.lr.items(), f"judging {method.name}", total=len(own.lr)):
        sr, flags = method.answer(lr)
        rows.append(measure_own_tile(name, method.name, lr, sr, flags, detector))
        if reference is not None:
            look.add(sr)
    return rows, look


def measure_own_tile(
    name: str,
    method: str,
    lr: Picture,
    sr: Picture,
    flags: Mapping[str, float],
    detector: DetectorLike | None,
) -> OwnTile:
    """Measure one method's picture of one tile.

    Args:
        name: File of the tile.
        method: Name of the method.
        lr: (h, w) uint8.
        sr: (s*h, s*w) uint8, the method's picture.
        flags: Flags of the picture by name.
        detector: The fab's own; None leaves its figure out.
    """
    seen = lr_consistency(sr, lr)
    outlines = count_outlines("own", method, {name: lr}, {name: sr})
    return OwnTile(
        name=name,
        method=method,
        consistency=seen.mean,
        consistency_worst=seen.worst,
        residual=flags.get("residual"),
        domain_distance=flags.get("domain_distance"),
        edge_grain=edge_grain(sr).ratio,
        outlines_lost=outlines.lost,
        outlines_lost_px=outlines.lost_px,
        outlines_invented=outlines.invented,
        detections=None if detector is None else _detections(detector, sr),
    )


def _figures(
    method: Method, rows: Sequence[OwnTile], look: SetLook, reference: SetLook | None
) -> OwnFigures:
    structured = [row for row in rows if np.isfinite(row.consistency)]
    residuals = [row.residual for row in rows if row.residual is not None]
    domains = [row.domain_distance for row in rows if row.domain_distance is not None]
    grains = [row.edge_grain for row in rows if np.isfinite(row.edge_grain)]
    detections = [row.detections for row in rows if row.detections is not None]
    return OwnFigures(
        method=method.name,
        tiles=len(rows),
        consistency=float(np.mean([row.consistency for row in structured] or [np.nan])),
        consistency_worst=min((row.consistency_worst for row in structured), default=np.nan),
        residual_share=_share_above(residuals),
        domain_share=_share_above(domains),
        domain_median=float(np.median(domains)) if domains else None,
        edge_grain=float(np.mean(grains)) if grains else float("nan"),
        outlines_lost=sum(row.outlines_lost for row in rows),
        outlines_lost_px=sum(row.outlines_lost_px for row in rows),
        outlines_invented=sum(row.outlines_invented for row in rows),
        detections_per_tile=float(np.mean(detections)) if detections else None,
        **set_distances(look, reference),
    )


def _share_above(values: Sequence[float]) -> float | None:
    return float(np.mean([value > LIMIT for value in values])) if values else None
