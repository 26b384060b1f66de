"""Paired bootstrap over tiles: how sure a figure is, and a difference between two methods.

Tiles are drawn with replacement, the tiles with defects and those without apart. Every method is
scored on the same draws, so that a difference does not carry what the tiles do to both. A draw is
kept as weights, one count a tile, which makes every estimator a few matrix products.

Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", percentile intervals.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The samples that all methods share.

    Attributes:
        defect: (B, tiles with defects) counts.
        clean: (B, tiles without) counts.
    """

    defect: Floats
    clean: Floats


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval; all NaN where the figure is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure over all tiles, and over each bootstrap sample; (0,) samples where none are made."""

    value: float
    samples: Floats = field(default_factory=lambda: np.zeros(0))

    def interval(self) -> Interval:
        """Return the figure with its 95 % interval."""
        return interval(self.value, self.samples)

    def minus(self, other: "Estimate") -> Interval:
        """Return the paired difference: this figure less another one of the same draws."""
        if self.samples.size == 0 or other.samples.size == 0:
            return interval(self.value - other.value, np.zeros(0))
        return interval(self.value - other.value, self.samples - other.samples)


def draw_tiles(*, defect: int, clean: int, draws: int, seed: int) -> Draws:
    """Draw the samples; the same for the same numbers."""
    rng = np.random.default_rng(seed)
    return Draws(defect=_counts(rng, defect, draws), clean=_counts(rng, clean, draws))


def interval(value: float, samples: Floats) -> Interval:
    """Percentile interval of 95 % around a figure, from (B,) sampled figures."""
    finite = samples[np.isfinite(samples)]
    if finite.size == 0 or not np.isfinite(value):
        return Interval(value=value, low=float("nan"), high=float("nan"))
    low, high = np.quantile(finite, (0.025, 0.975))
    return Interval(value=value, low=float(low), high=float(high))


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Mean of (K,) values under (B, K) weights, NaN values left out; (B,), NaN where none is."""
    kept = np.isfinite(values)
    total = weights[:, kept].sum(axis=1)
    sums = weights[:, kept] @ values[kept]
    return np.where(total > 0, sums / np.maximum(total, 1e-12), np.nan)


def weighted_median(values: Floats, weights: Floats) -> Floats:
    """Median of (K,) values under (B, K) weights, NaN values left out.

    The two middle values are averaged where half the weight lies on either side, as in
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
