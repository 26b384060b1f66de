"""Measurement of methods on near sets: aligned quality, gradients, spectrum and style, no detector.

The shipped detector was trained at another pixel size and another look, so that its verdicts would
mean nothing here. Since the pairs are aligned, every picture is compared with HR itself.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.compared.methods import Method
from training.evaluation.folders.benchmark import Picture, Tile
from training.evaluation.measures.background import (
    distance_by_scene,
    histogram_distance,
    mean_by_scene,
    radial_spectrum_db,
)
from training.evaluation.measures.gradients import (
    GRADIENT_BINS,
    GRADIENT_LIMIT,
    GradientFigures,
    flat_area,
    histogram_quantiles,
    measure_gradients,
)
from training.evaluation.measures.style import Style, compare_style
from training.ground.baselines import fit_gain_offset
from training.ground.progress import tracked
from training.ground.quality import gmsd, noise_sigma, psnr, ssim

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NearFigures:
    """Figures of one method on one near set, as means over its tiles unless stated.

    Attributes:
        set: Name of the benchmark's split.
        method: Name of the method.
        tiles: Number of tiles.
        psnr_db: PSNR of the picture as it is; infinite for HR itself.
        psnr_fitted_db: PSNR after a fit of gain and offset.
        ssim: SSIM of the picture as it is.
        ssim_fitted: SSIM after the fit.
        gmsd: Gradient magnitude similarity deviation after the fit.
        spectrum_db: Distance of the mean spectra from HR's, scene kind by scene kind.
        noise_ratio: White-noise deviation over that of HR.
        gradient_q50: Median of the gradient magnitude over all tiles, greys of 0 to 1.
        gradient_q95: Quantile of 95 %.
        gradient_q99: Quantile of 99 %.
        gradient_distance: Wasserstein distance of the gradient histogram to HR's.
        thinness: Share of the strongest 5 % of pixels that are ridges.
        flat_ratio: Mean gradient where HR is flat, over that of HR.
        tone_grey: `style.Style.tone_grey`.
        inverted: Number of tiles whose contrast has the other sign.
        other_tone: Number of tiles of another tone.
        flipped_share: Share of tiles with either: style flips.
    """

    set: str
    method: str
    tiles: int
    psnr_db: float
    psnr_fitted_db: float
    ssim: float
    ssim_fitted: float
    gmsd: float
    spectrum_db: float
    noise_ratio: float
    gradient_q50: float
    gradient_q95: float
    gradient_q99: float
    gradient_distance: float
    thinness: float
    flat_ratio: float
    tone_grey: float
    inverted: int
    other_tone: int
    flipped_share: float


@dataclass(frozen=True, kw_only=True)
class StyleFlip:
    """One picture of another style than HR.

    Attributes:
        set: Name of the benchmark's split.
        method: Name of the method.
        tile: Number of the tile.
        scene: Kind of scene.
        correlation: Correlation of the blurred pictures; None where HR has no contrast.
        tone_grey: Distance of the tones in grey levels.
    """

    set: str
    method: str
    tile: str
    scene: str
    correlation: float | None
    tone_grey: float


@dataclass(frozen=True, kw_only=True)
class NearReport:
    """Everything measured on near sets.

    Attributes:
        split: Value of `--split`.
        scale: s.
        seed: Seed of the benchmark.
        fingerprint: Digest of its index files.
        figures: Rows, one a set and method.
        flips: Pictures of another style than HR.
    """

    split: str
    scale: int
    seed: int
    fingerprint: str
    figures: tuple[NearFigures, ...]
    flips: tuple[StyleFlip, ...]


@dataclass(frozen=True, kw_only=True)
class NearTile:
    """Measurements of one picture against HR; the fields are those of `NearFigures`."""

    psnr_db: float
    psnr_fitted_db: float
    ssim: float
    ssim_fitted: float
    gmsd: float
    noise_sigma: float
    spectrum_db: Floats
    gradients: GradientFigures
    style: Style


@dataclass(frozen=True, kw_only=True)
class NearSet:
    """One near set, measured.

    Attributes:
        figures: Method name to figures.
        flips: Pictures of another style.
        spectra: Method name to scene kind to mean spectrum in dB.
        reference: Scene kind to HR's mean spectrum in dB.
    """

    figures: dict[str, NearFigures]
    flips: list[StyleFlip]
    spectra: dict[str, dict[str, Floats]]
    reference: dict[str, Floats]


def measure_near(
    name: str, tiles: Sequence[Tile], methods: Sequence[Method], *, jobs: int = 1
) -> NearSet:
    """Measure every method on the tiles of one near set.

    Args:
        name: Name of the set.
        tiles: Its tiles, at least one.
        methods: Methods to compare; one without `render` is the true HR.
        jobs: Threads that measure.

    Raises:
        BenchmarkError: A picture is missing.
        ValueError: A method's picture has another size than HR.
    """
    found: dict[str, list[NearTile]] = {method.name: [] for method in methods}
    truth: list[NearTile] = []
    with ThreadPoolExecutor(jobs) as pool:
        for tile in tracked(tiles, f"judging {name}", unit="tile"):
            hr = tile.hr()
            flat = flat_area(hr)
            pictures = [_rendered(method, tile, hr) for method in methods]
            # A picture after the other is rendered, because an engine has threads of its own.
            measured = pool.map(
                lambda picture, h=hr, f=flat: measure_picture(picture, h, f), pictures
            )
            for method, item in zip(methods, measured, strict=True):
                found[method.name].append(item)
            truth.append(measure_picture(hr, hr, flat))
    scenes = [tile.scene for tile in tiles]
    reference = _spectra(truth, scenes)
    return NearSet(
        figures={
            method: _figures(name, method, items, truth, scenes) for method, items in found.items()
        },
        flips=[
            StyleFlip(
                set=name,
                method=method,
                tile=tile.name,
                scene=tile.scene,
                correlation=item.style.correlation,
                tone_grey=item.style.tone_grey,
            )
            for method, items in found.items()
            for tile, item in zip(tiles, items, strict=True)
            if item.style.is_flipped
        ],
        spectra={method: _spectra(items, scenes) for method, items in found.items()},
        reference=reference,
    )


def measure_picture(picture: Picture, hr: Picture, flat: NDArray[np.bool_]) -> NearTile:
    """Measure one picture.

    Args:
        picture: (H, W) uint8.
        hr: The same shape, of the same place.
        flat: (H, W), True where HR is flat; see `gradients.flat_area`.
    """
    # HR itself is not fitted, whose rounding would make its PSNR finite.
    fitted = picture if np.array_equal(picture, hr) else fit_gain_offset(picture, hr)
    return NearTile(
        psnr_db=psnr(picture, hr),
        psnr_fitted_db=psnr(fitted, hr),
        ssim=ssim(picture, hr),
        ssim_fitted=ssim(fitted, hr),
        gmsd=gmsd(fitted, hr),
        noise_sigma=noise_sigma(picture),
        spectrum_db=radial_spectrum_db(picture),
        gradients=measure_gradients(picture, flat),
        style=compare_style(picture, hr),
    )


def _rendered(method: Method, tile: Tile, hr: Picture) -> Picture:
    picture = hr if method.render is None else method.render(tile)
    if picture.shape != hr.shape or picture.dtype != np.uint8:
        raise ValueError(
            f"{method.name} gave {picture.shape} {picture.dtype} for {tile.key}, expected "
            f"{hr.shape} uint8"
        )
    return picture


def _spectra(items: Sequence[NearTile], scenes: Sequence[str]) -> dict[str, Floats]:
    return mean_by_scene(np.array([item.spectrum_db for item in items]), scenes)


def _figures(
    name: str,
    method: str,
    items: Sequence[NearTile],
    truth: Sequence[NearTile],
    scenes: Sequence[str],
) -> NearFigures:
    keys = ("psnr_db", "psnr_fitted_db", "ssim", "ssim_fitted", "gmsd")
    means: Mapping[str, float] = {
        key: float(np.mean([getattr(item, key) for item in items])) for key in keys
    }
    own, true = (
        np.array([item.gradients.histogram for item in rows], np.float64).sum(axis=0)
        for rows in (items, truth)
    )
    q50, q95, q99 = histogram_quantiles(own, (0.5, 0.95, 0.99))
    spectra = np.array([item.spectrum_db for item in items])
    flat = [item.gradients.flat_mean for item in items]
    flat_truth = [item.gradients.flat_mean for item in truth]
    return NearFigures(
        set=name,
        method=method,
        tiles=len(items),
        **means,
        spectrum_db=float(distance_by_scene(spectra, scenes, _spectra(truth, scenes))[0]),
        noise_ratio=_ratio([x.noise_sigma for x in items], [x.noise_sigma for x in truth]),
        gradient_q50=q50,
        gradient_q95=q95,
        gradient_q99=q99,
        gradient_distance=GRADIENT_LIMIT / GRADIENT_BINS * histogram_distance(own, true),
        thinness=float(np.mean([item.gradients.thinness for item in items])),
        flat_ratio=_ratio(flat, flat_truth),
        tone_grey=float(np.mean([item.style.tone_grey for item in items])),
        inverted=sum(item.style.is_inverted for item in items),
        other_tone=sum(item.style.is_other_tone for item in items),
        flipped_share=float(np.mean([item.style.is_flipped for item in items])),
    )


def _ratio(values: Sequence[float], of: Sequence[float]) -> float:
    total = float(np.sum(of))
    return float(np.sum(values)) / total if total else float("nan")
