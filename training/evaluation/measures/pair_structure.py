"""Structure of a method's pictures of aligned pairs, compared with the references after tone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.folders.benchmark import Picture
from training.evaluation.folders.real_folders import RealPair
from training.evaluation.measures.consistency import lr_consistency
from training.ground.baselines import fit_gain_offset, fit_gaussian
from training.ground.quality import local_correlation, psnr, ssim

STRUCTURE_DEVIATION_GREY = 5.0
"""Local deviation of the low-passed reference from which on there is structure to compare."""


@dataclass(frozen=True, kw_only=True)
class PairStructure:
    """Figures of a method's pictures against the references of pairs, as means over the pairs.

    Tone differs between captures. Gain and offset are therefore fitted to the reference first, for
    every method; a second PSNR also fits a Gaussian blur.

    Attributes:
        psnr_db: PSNR after gain and offset.
        psnr_gaussian_db: PSNR after the best Gaussian, gain and offset.
        ssim: SSIM after gain and offset.
        correlation: Local correlation where the reference has structure.
        correlation_worst: Smallest over the pairs of its 1 % quantile.
        lr_consistency: Mean of `consistency.LrConsistency`.
    """

    psnr_db: float
    psnr_gaussian_db: float
    ssim: float
    correlation: float
    correlation_worst: float
    lr_consistency: float


def pair_structure(pairs: Sequence[RealPair], answers: Mapping[str, Picture]) -> dict[str, float]:
    """Compare a method's pictures with the references.

    Args:
        pairs: Pairs, at least one.
        answers: Name of a pair to the method's picture, (s*h, s*w) uint8.

    Returns:
        Fields of `PairStructure` by name.
    """
    rows, worst = [], []
    for pair in pairs:
        sr = answers[pair.name]
        fitted = fit_gain_offset(sr, pair.hr)
        local, deviation = local_correlation(sr, pair.hr)
        structure = local[deviation > STRUCTURE_DEVIATION_GREY]
        if structure.size == 0:
            structure = local.ravel()
        worst.append(float(np.quantile(structure, 0.01)))
        rows.append(
            (
                psnr(fitted, pair.hr),
                psnr(fit_gaussian(sr, pair.hr)[0], pair.hr),
                ssim(fitted, pair.hr),
                float(structure.mean()),
                lr_consistency(sr, pair.lr).mean,
            )
        )
    names = ("psnr_db", "psnr_gaussian_db", "ssim", "correlation", "lr_consistency")
    means = np.mean(rows, axis=0).tolist()
    return {**dict(zip(names, means, strict=True)), "correlation_worst": min(worst)}
