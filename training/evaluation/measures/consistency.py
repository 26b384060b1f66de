"""LR consistency of an SR picture: its local correlation with the LR tile on the LR grid."""

from dataclasses import dataclass

import numpy as np

from training.evaluation.folders.benchmark import Picture
from training.evaluation.measures.coarse_view import area_mean
from training.ground.quality import local_correlation

LOW_PASS_SIGMA_PX = 0.7
WINDOW_SIGMA_PX = 4.0
MIN_DEVIATION_GREY = 6.0
"""Least local deviation of the low-passed LR tile that counts as structure."""

WORST_QUANTILE = 0.01


@dataclass(frozen=True, kw_only=True)
class LrConsistency:
    """Local correlation between the SR picture, averaged to LR pixels, and the LR tile.

    Attributes:
        mean: Over windows where the LR tile has structure; NaN where it has none.
        worst: 1 % quantile of the same.
    """

    mean: float
    worst: float


def lr_consistency(image: Picture, lr: Picture) -> LrConsistency:
    """Correlate the area mean of an SR picture with its LR tile, ignoring local gain and offset.

    Args:
        image: (s*h, s*w) uint8.
        lr: (h, w) uint8.

    Raises:
        ValueError: The sides are not multiples of the LR sides.
    """
    seen = area_mean(image, lr.shape)
    local, deviation = local_correlation(
        seen, lr, window_sigma_px=WINDOW_SIGMA_PX, low_pass_sigma_px=LOW_PASS_SIGMA_PX
    )
    structure = local[deviation > MIN_DEVIATION_GREY]
    if structure.size == 0:
        return LrConsistency(mean=float("nan"), worst=float("nan"))
    return LrConsistency(
        mean=float(structure.mean()), worst=float(np.quantile(structure, WORST_QUANTILE))
    )
