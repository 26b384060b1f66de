"""Test tiles of an evaluation, and means and medians over them with bootstrap samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.folders.benchmark import Tile
from training.evaluation.judging.bootstrap import Draws, Estimate, weighted_mean, weighted_median

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Tiles on which all methods are measured, with the bootstrap draws of these tiles.

    Attributes:
        defect: Tiles with defects.
        clean: Tiles without.
        draws: Bootstrap weights.
        shape: (H, W) of an HR picture.
        threshold: Threshold of the detector.
    """

    defect: tuple[Tile, ...]
    clean: tuple[Tile, ...]
    draws: Draws
    shape: tuple[int, int]
    threshold: float


def mean_estimate(values: Floats, weights: Floats) -> Estimate:
    """Return the mean of (K,) values with samples by (B, K) weights; NaN values are ignored."""
    ones = np.ones((1, values.size))
    return Estimate(
        value=float(weighted_mean(values, ones)[0]), samples=weighted_mean(values, weights)
    )


def median_estimate(values: Floats, weights: Floats) -> Estimate:
    """Return the median of (K,) values with samples by (B, K) weights; NaN values are ignored."""
    ones = np.ones((1, values.size))
    return Estimate(
        value=float(weighted_median(values, ones)[0]), samples=weighted_median(values, weights)
    )


def where(names: Sequence[str], wanted: str) -> NDArray[np.bool_]:
    """Return a mask of the names that equal `wanted`."""
    return np.array([name == wanted for name in names], dtype=bool)
