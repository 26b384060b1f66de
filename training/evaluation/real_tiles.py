"""Real micrographs, where less is known: a model that only knows the simulator helps nobody.

Below the data root lies `sem/starter_x4` with
- `test_real_pairs`: two captures of one field at two magnifications, registered: structure;
- `test_defect_hr` and `test_defect_lr_synth`: real process defects, LR derived: structure only,
  because they come from the LR run and show what no HR of the other run looks like;
- `train_lr` against `train_hr`, two wafer runs, unpaired: background. A model that was trained on
  these folders has seen the tiles, but never a picture that belongs to one of them;
- `test_defect_lr_real_noref`: LR alone: only whether SR still shows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.baselines import fit_gain_offset, fit_gaussian
from training.evaluation import background
from training.evaluation.benchmark import Picture, read_png
from training.evaluation.consistency import lr_consistency
from training.evaluation.methods import Method
from training.quality import Grey, local_correlation, noise_sigma, psnr, ssim

FOLDER = Path("sem") / "starter_x4"
SCALE = 4
STRUCTURE_DEVIATION_GREY = 5.0
"""Local deviation of the low-passed reference from which on there is structure to compare."""


@dataclass(frozen=True, kw_only=True)
class RealPair:
    """One LR picture and its reference; uint8, (h, w) and (4h, 4w)."""

    name: str
    lr: Picture
    hr: Picture


@dataclass(frozen=True, kw_only=True)
class RealSets:
    """What lies below a data root; empty where a folder is absent."""

    pairs: tuple[RealPair, ...]
    defects: tuple[RealPair, ...]
    lone_lr: tuple[Picture, ...]
    background_lr: tuple[Picture, ...]
    background_hr: tuple[Picture, ...]


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


def has_real_tiles(data_root: Path) -> bool:
    """Say whether a data root holds the real tiles."""
    return (data_root / FOLDER).is_dir()


def load_real_sets(data_root: Path) -> RealSets:
    """Read the real tiles below a data root.

    Raises:
        ValueError: A pair's reference is not four times its LR picture.
    """
    folder = data_root / FOLDER
    return RealSets(
        pairs=_pairs(folder / "test_real_pairs", folder / "test_real_pairs", "_lr", "_hr"),
        defects=_pairs(folder / "test_defect_lr_synth", folder / "test_defect_hr", "", ""),
        lone_lr=_pictures(folder / "test_defect_lr_real_noref"),
        background_lr=_pictures(folder / "train_lr"),
        background_hr=_pictures(folder / "train_hr"),
    )


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
    for method in methods:
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


def _pictures(folder: Path) -> tuple[Picture, ...]:
    return tuple(read_png(path) for path in sorted(folder.glob("*.png")))


def _pairs(lr_folder: Path, hr_folder: Path, lr_end: str, hr_end: str) -> tuple[RealPair, ...]:
    pairs = []
    for lr_path in sorted(lr_folder.glob(f"*{lr_end}.png")):
        name = lr_path.stem.removesuffix(lr_end)
        hr_path = hr_folder / f"{name}{hr_end}.png"
        if not hr_path.is_file():
            continue
        lr, hr = read_png(lr_path), read_png(hr_path)
        if hr.shape != (SCALE * lr.shape[0], SCALE * lr.shape[1]):
            raise ValueError(
                f"{hr_path} is {hr.shape} for an LR picture of {lr.shape}, expected {SCALE} times"
            )
        pairs.append(RealPair(name=name, lr=lr, hr=hr))
    return tuple(pairs)
