"""Measures real micrographs, where less is known: a model of the simulator alone helps nobody.

What the sets of pictures are is said in `real_folders`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.baselines import fit_gain_offset, fit_gaussian
from training.evaluation import background
from training.evaluation.benchmark import Picture
from training.evaluation.consistency import lr_consistency
from training.evaluation.methods import Method
from training.evaluation.real_folders import RealPair, RealSets
from training.progress import tracked
from training.quality import Grey, local_correlation, noise_sigma, psnr, ssim

STRUCTURE_DEVIATION_GREY = 5.0
"""Local deviation of the low-passed reference from which on there is structure to compare."""


@dataclass(frozen=True, kw_only=True)
class RealStructure:
    """One method on one set of pairs, means over its pictures.

    Tone differs between captures, so that gain and offset are fitted to the reference first, for
    every method, and for a second PSNR also the best Gaussian blur.

    Attributes:
        set: `real_pairs` or `real_defects`.
        method: Name.
        images: Number of pairs.
        psnr_db: After gain and offset.
        psnr_gaussian_db: After the best Gaussian, gain and offset.
        ssim: After gain and offset.
        correlation: Local correlation where the reference has structure.
        correlation_worst: Smallest over pictures of its 1 % quantile.
        lr_consistency: See `consistency`.
    """

    set: str
    method: str
    images: int
    psnr_db: float
    psnr_gaussian_db: float
    ssim: float
    correlation: float
    correlation_worst: float
    lr_consistency: float


@dataclass(frozen=True, kw_only=True)
class RealBackground:
    """One method's pictures of LR tiles of one run against HR of the other.

    Attributes:
        method: Name.
        images: Number of LR tiles.
        spectrum_db: See `background.log_spectral_distance`, of the sets' mean spectra.
        border_spectrum_db: The same along the border.
        noise_ratio: Mean white-noise deviation over that of HR.
        grey_distance: W1 of grey histograms, in grey levels.
        lone_consistency: LR consistency on real LR tiles with defects and without reference.
    """

    method: str
    images: int
    spectrum_db: float
    border_spectrum_db: float
    noise_ratio: float
    grey_distance: float
    lone_consistency: float


@dataclass(frozen=True, kw_only=True)
class RealReport:
    """Everything measured on real tiles; the floors are of random halves of `train_hr`."""

    structure: tuple[RealStructure, ...]
    background: tuple[RealBackground, ...]
    floors: dict[str, float]


def measure_real(sets: RealSets, methods: Sequence[Method]) -> RealReport:
    """Measure every method that can enlarge any picture.

    Args:
        sets: From `load_real_sets`.
        methods: Those without `upscale` are left out.
    """
    structure, backgrounds = [], []
    spectra = np.array([background.radial_spectrum_db(hr) for hr in sets.background_hr])
    borders = np.array([background.border_spectrum_db(hr) for hr in sets.background_hr])
    same = ["all"] * len(spectra)
    for method in tracked(methods, "judging real tiles", unit="method"):
        for name, pairs in (("real_pairs", sets.pairs), ("real_defects", sets.defects)):
            if pairs and method.upscale is not None:
                structure.append(_structure(name, method, pairs))
        if sets.background_lr and sets.background_hr and method.upscale is not None:
            backgrounds.append(_background(method, sets, spectra.mean(0), borders.mean(0)))
    floors = {}
    if len(spectra) >= 2:
        floors = {
            "spectrum_db": background.split_half_floor(spectra, same),
            "border_spectrum_db": background.split_half_floor(borders, same),
        }
    structure.sort(key=lambda row: row.set, reverse=True)
    return RealReport(structure=tuple(structure), background=tuple(backgrounds), floors=floors)


def _structure(name: str, method: Method, pairs: Sequence[RealPair]) -> RealStructure:
    rows = []
    worst = []
    for pair in pairs:
        sr = _upscaled(method, pair.lr)
        fitted = fit_gain_offset(sr, pair.hr)
        mean, least = _structure_correlation(sr, pair.hr)
        worst.append(least)
        rows.append(
            (
                psnr(fitted, pair.hr),
                psnr(fit_gaussian(sr, pair.hr)[0], pair.hr),
                ssim(fitted, pair.hr),
                mean,
                lr_consistency(sr, pair.lr).mean,
            )
        )
    means = np.mean(rows, axis=0)
    return RealStructure(
        set=name,
        method=method.name,
        images=len(pairs),
        psnr_db=float(means[0]),
        psnr_gaussian_db=float(means[1]),
        ssim=float(means[2]),
        correlation=float(means[3]),
        correlation_worst=min(worst),
        lr_consistency=float(means[4]),
    )


def _structure_correlation(image: Grey, reference: Picture) -> tuple[float, float]:
    local, deviation = local_correlation(image, reference)
    structure = local[deviation > STRUCTURE_DEVIATION_GREY]
    if structure.size == 0:
        structure = local.ravel()
    return float(structure.mean()), float(np.quantile(structure, 0.01))


def _background(
    method: Method, sets: RealSets, spectrum: np.ndarray, border: np.ndarray
) -> RealBackground:
    pictures = [_upscaled(method, lr) for lr in sets.background_lr]
    spectra = np.mean([background.radial_spectrum_db(sr) for sr in pictures], axis=0)
    borders = np.mean([background.border_spectrum_db(sr) for sr in pictures], axis=0)
    noise = np.mean([noise_sigma(sr) for sr in pictures])
    lone = [lr_consistency(_upscaled(method, lr), lr).mean for lr in sets.lone_lr]
    return RealBackground(
        method=method.name,
        images=len(pictures),
        spectrum_db=float(background.log_spectral_distance(spectra, spectrum)),
        border_spectrum_db=float(background.log_spectral_distance(borders, border)),
        noise_ratio=float(noise / np.mean([noise_sigma(hr) for hr in sets.background_hr])),
        grey_distance=background.histogram_distance(
            _histogram(pictures), _histogram(sets.background_hr)
        ),
        lone_consistency=float(np.nanmean(lone)) if np.isfinite(lone).any() else float("nan"),
    )


def _upscaled(method: Method, lr: Picture) -> Picture:
    if method.upscale is None:
        raise ValueError(f"{method.name} has finished pictures only and cannot enlarge others")
    return method.upscale(lr)


def _histogram(pictures: Sequence[Picture]) -> np.ndarray:
    counts = [np.bincount(picture.ravel(), minlength=256) for picture in pictures]
    return np.array(counts, dtype=np.float64).sum(axis=0)
