"""Measures a fab's own tiles: LR pictures of its fast scan, and HR pictures of other places.

No truth is known, so that nothing here says whether a defect is found. What can be judged without:

- LR alone: does the picture still show the tile (`consistency`), and what the model itself says of
  its answer (residual and distance from the training's domain, each over the bundle's limit);
- with HR: do backgrounds look alike (spectrum, noise, greys, kernel distance). The HR pictures must
  show the same kinds of places at the same magnification as the output, or the distances say that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation import background
from training.evaluation.benchmark import Picture
from training.evaluation.consistency import lr_consistency
from training.evaluation.kernel_distance import (
    FeatureNetwork,
    PictureFeatures,
    kernel_distance,
    kernel_floor,
    picture_features,
)
from training.evaluation.methods import Method
from training.progress import tracked
from training.quality import noise_sigma

MIN_LR_SIDE_PX = 48
MIN_HR_SIDE_PX = 96
"""Below these the spectra and the crops of the feature network have no room."""

LIMIT = 1.0
"""Flags are given over the bundle's limits."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OwnTiles:
    """Pictures of one tool, as training's reader gives them.

    Attributes:
        lr: Name to (h, w) uint8, any sizes.
        hr: (H, W) uint8 of other places; empty where there are none.
    """

    lr: Mapping[str, Picture]
    hr: Sequence[Picture] = ()


@dataclass(frozen=True, kw_only=True)
class OwnTile:
    """What was measured of one tile by one method.

    Attributes:
        name: File of the LR tile.
        method: Name of the method.
        consistency: Mean local correlation of the picture, seen coarsely, with the LR tile; NaN
            where the tile has no structure.
        consistency_worst: 1 % quantile of the same.
        residual: Flag of the model over its limit; None where it has none.
        domain_distance: The same.
    """

    name: str
    method: str
    consistency: float
    consistency_worst: float
    residual: float | None
    domain_distance: float | None


@dataclass(frozen=True, kw_only=True)
class OwnFigures:
    """One method over all tiles; what needs HR, limits or the feature network is None without.

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
    kernel_distance: float | None
    border_kernel_distance: float | None


@dataclass(frozen=True, kw_only=True)
class OwnReport:
    """Everything measured on own tiles.

    Attributes:
        lr_tiles: Number of LR tiles.
        hr_pictures: Number of HR pictures.
        figures: One row a method.
        tiles: One row a tile and method.
        floors: Key of a figure to what two random halves of the HR pictures differ by.
    """

    lr_tiles: int
    hr_pictures: int
    figures: tuple[OwnFigures, ...]
    tiles: tuple[OwnTile, ...]
    floors: dict[str, float]


def measure_own(
    own: OwnTiles, methods: Sequence[Method], *, features: FeatureNetwork | None = None
) -> OwnReport:
    """Measure every method that can enlarge any picture.

    Args:
        own: The pictures.
        methods: Those without `upscale` are left out.
        features: Network of the kernel distance; None leaves it out.
    """
    reference = _Look.of("measuring HR", own.hr, features) if own.hr else None
    figures: list[OwnFigures] = []
    tiles: list[OwnTile] = []
    for method in methods:
        if method.upscale is not None:
            rows, look = _measure(own, method, reference, features)
            tiles += rows
            figures.append(_figures(method, rows, look, reference))
    return OwnReport(
        lr_tiles=len(own.lr),
        hr_pictures=len(own.hr),
        figures=tuple(figures),
        tiles=tuple(tiles),
        floors={} if reference is None else reference.floors(),
    )


class _Look:
    """What a set of pictures looks like; filled one by one, so that none of them is kept."""

    def __init__(self, features: FeatureNetwork | None) -> None:
        self._network = features
        self.spectra: list[Floats] = []
        self.borders: list[Floats] = []
        self.noises: list[float] = []
        self.greys = np.zeros(256)
        self.features: list[PictureFeatures] = []

    @classmethod
    def of(cls, what: str, pictures: Sequence[Picture], features: FeatureNetwork | None) -> "_Look":
        look = cls(features)
        for picture in tracked(pictures, what, unit="picture"):
            look.add(picture)
        return look

    def add(self, picture: Picture) -> None:
        if self._network is not None:
            number = len(self.spectra)
            self.features.append(picture_features(picture, self._network, number=number))
        self.spectra.append(background.radial_spectrum_db(picture))
        self.borders.append(background.border_spectrum_db(picture))
        self.noises.append(noise_sigma(picture))
        self.greys += np.bincount(picture.ravel(), minlength=256)

    def floors(self) -> dict[str, float]:
        if len(self.spectra) < 2:
            return {}
        same = ["all"] * len(self.spectra)
        found = {
            "spectrum_db": background.split_half_floor(np.array(self.spectra), same),
            "border_spectrum_db": background.split_half_floor(np.array(self.borders), same),
        }
        if self.features:
            found["kernel_distance"] = kernel_floor(_rows(self, "centre"))
            found["border_kernel_distance"] = kernel_floor(_rows(self, "border"))
        return found


def _measure(
    own: OwnTiles,
    method: Method,
    reference: _Look | None,
    features: FeatureNetwork | None,
) -> tuple[list[OwnTile], _Look]:
    rows = []
    look = _Look(features)
    for name, lr in tracked(own.lr.items(), f"judging {method.name}", total=len(own.lr)):
        sr, flags = method.answer(lr)
        seen = lr_consistency(sr, lr)
        rows.append(
            OwnTile(
                name=name,
                method=method.name,
                consistency=seen.mean,
                consistency_worst=seen.worst,
                residual=flags.get("residual"),
                domain_distance=flags.get("domain_distance"),
            )
        )
        if reference is not None:
            look.add(sr)
    return rows, look


def _figures(
    method: Method, rows: Sequence[OwnTile], look: _Look, reference: _Look | None
) -> OwnFigures:
    structured = [row for row in rows if np.isfinite(row.consistency)]
    residuals = [row.residual for row in rows if row.residual is not None]
    domains = [row.domain_distance for row in rows if row.domain_distance is not None]
    return OwnFigures(
        method=method.name,
        tiles=len(rows),
        consistency=float(np.mean([row.consistency for row in structured] or [np.nan])),
        consistency_worst=min((row.consistency_worst for row in structured), default=np.nan),
        residual_share=_share_above(residuals),
        domain_share=_share_above(domains),
        domain_median=float(np.median(domains)) if domains else None,
        **_distances(look, reference),
    )


def _distances(look: _Look, reference: _Look | None) -> dict[str, float | None]:
    names = ("spectrum_db", "border_spectrum_db", "noise_ratio", "grey_distance")
    found: dict[str, float | None] = dict.fromkeys(
        (*names, "kernel_distance", "border_kernel_distance")
    )
    if reference is None:
        return found
    for name, ours, theirs in (
        ("spectrum_db", look.spectra, reference.spectra),
        ("border_spectrum_db", look.borders, reference.borders),
    ):
        distance = background.log_spectral_distance(np.mean(ours, axis=0), np.mean(theirs, axis=0))
        found[name] = float(distance)
    # A picture without any noise at all is a drawing; a ratio to it says nothing.
    theirs_sigma = float(np.mean(reference.noises))
    found["noise_ratio"] = float(np.mean(look.noises)) / theirs_sigma if theirs_sigma else None
    found["grey_distance"] = background.histogram_distance(look.greys, reference.greys)
    if min(len(look.features), len(reference.features)) >= 2:
        for name, part in (("kernel_distance", "centre"), ("border_kernel_distance", "border")):
            found[name] = kernel_distance(_rows(look, part), _rows(reference, part))
    return found


def _rows(look: _Look, part: str) -> Floats:
    return np.array([getattr(item, part) for item in look.features])


def _share_above(values: Sequence[float]) -> float | None:
    return float(np.mean([value > LIMIT for value in values])) if values else None
