"""Paired bootstrap over tiles, for intervals of figures and of differences between methods.

Tiles with defects and tiles without are drawn separately, with replacement. All methods are scored
on the same draws, so that variation between tiles cancels in a difference. A draw is stored as one
count per tile, so that estimators are a few matrix products.

Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", percentile intervals.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Bootstrap samples that all methods share.

    Attributes:
        defect: (B, tiles with defects) counts.
        clean: (B, tiles without) counts.
    """

    defect: Floats
    clean: Floats


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval; undefined values are NaN."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure over all tiles and over each bootstrap sample; `samples` may be empty."""

    value: float
    samples: Floats = field(default_factory=lambda: np.zeros(0))

    def interval(self) -> Interval:
        """Return the figure with its 95 % interval."""
        return interval(self.value, self.samples)

    def minus(self, other: "Estimate") -> Interval:
        """Return the paired difference between this figure and another one of the same draws."""
        if self.samples.size == 0 or other.samples.size == 0:
            return interval(self.value - other.value, np.zeros(0))
        return interval(self.value - other.value, self.samples - other.samples)


def draw_tiles(*, defect: int, clean: int, draws: int, seed: int) -> Draws:
    """Draw the bootstrap samples; equal arguments give equal samples."""
    rng = np.random.default_rng(seed)
    return Draws(defect=_counts(rng, defect, draws), clean=_counts(rng, clean, draws))


def interval(value: float, samples: Floats) -> Interval:
    """Return a figure with its 95 % percentile interval from (B,) samples of the figure."""
    finite = samples[np.isfinite(samples)]
    if finite.size == 0 or not np.isfinite(value):
        return Interval(value=value, low=float("nan"), high=float("nan"))
    low, high = np.quantile(finite, (0.025, 0.975))
    return Interval(value=value, low=float(low), high=float(high))


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Return the weighted means (B,) of (K,) values by (B, K) weights; NaN values are ignored."""
    kept = np.isfinite(values)
    total = weights[:, kept].sum(axis=1)
    sums = weights[:, kept] @ values[kept]
    return np.where(total > 0, sums / np.maximum(total, 1e-12), np.nan)


def weighted_median(values: Floats, weights: Floats) -> Floats:
    """Return the weighted medians of (K,) values by (B, K) weights; NaN values are ignored.

    If exactly half the weight lies on either side, the two middle values are averaged, as in
    `numpy.median`.

    Returns:
        (B,), NaN where no value has weight.
    """
    kept = np.isfinite(values)
    order = np.argsort(values[kept])
    ordered = values[kept][order]
    if ordered.size == 0:
        return np.full(len(weights), np.nan)
    cumulated = np.cumsum(weights[:, kept][:, order], axis=1)
    half = cumulated[:, -1:] / 2
    last = ordered.size - 1
    low = np.minimum((cumulated < half - 1e-9).sum(axis=1), last)
    high = np.minimum((cumulated < half + 1e-9).sum(axis=1), last)
    return np.where(half[:, 0] > 0, (ordered[low] + ordered[high]) / 2, np.nan)


def _counts(rng: np.random.Generator, tiles: int, draws: int) -> Floats:
    if tiles == 0:
        return np.zeros((draws, 0))
    return rng.multinomial(tiles, np.full(tiles, 1 / tiles), size=draws).astype(np.float64)
