"""Confidence intervals of the ratio of two percentiles of few requests.

The method is order statistics. Of n independent latencies, the number below the true percentile is
binomial (n, share), regardless of the distribution. Two of the ordered latencies therefore enclose
the percentile with an exactly known probability. Fewer than some hundred requests do not bound a
99th percentile from above, since it may lie above all of their latencies. A bootstrap cannot show
that, since it draws only from the measured latencies. Latencies of requests that waited behind each
other are not quite independent, so the true intervals are somewhat wider.

Source: David and Nagaraja 2003, Order Statistics, section 7.1.
"""

import math
from collections.abc import Sequence

from loadtests.outcomes import percentile

CONFIDENCE = 0.95


def ratio_interval(
    above: Sequence[float], below: Sequence[float], share: float
) -> tuple[float, float, float]:
    """Return the ratio of the percentiles of two loads, with its interval.

    Args:
        above: Latencies of the numerator, in any unit, not negative.
        below: Latencies of the denominator.
        share: Percentile as a share, 0 to 1.

    Returns:
        The ratio and the ends of its interval (`CONFIDENCE`, two-sided); 0 and infinity where the
        requests were too few for an end. Each percentile's own interval is so wide that both hold
        at once with that confidence (Bonferroni), which makes this one wide rather than narrow.
    """
    error = (1 - CONFIDENCE) / 2
    above_low, above_high = percentile_interval(above, share, error=error)
    below_low, below_high = percentile_interval(below, share, error=error)
    return (
        percentile(above, share) / percentile(below, share),
        above_low / below_high,
        above_high / below_low if below_low > 0 else math.inf,
    )


def percentile_interval(
    values: Sequence[float], share: float, *, error: float
) -> tuple[float, float]:
    """Return an interval between two of the values that encloses the true percentile.

    Args:
        values: Latencies, not negative.
        share: Percentile as a share, 0 to 1.
        error: Probability that they do not enclose it, half of it on each side.

    Returns:
        The lower end, or 0 if no value can be it, and the upper end, or infinity.
    """
    ordered = [0.0, *sorted(values), math.inf]
    # The n-th value exceeds the percentile where fewer than n are at most that; it lies below where
    # n at least are.
    fewer = 0.0
    low = 0
    for number in range(1, len(ordered)):
        fewer += _binomial(number - 1, len(values), share)
        if fewer <= error / 2:
            low = number
        elif 1 - fewer <= error / 2:
            return ordered[low], ordered[number]
    return ordered[low], math.inf


def needed_for_both_ends(share: float) -> int:
    """Return the number of requests from which a ratio of percentiles has both ends."""
    return math.ceil(math.log((1 - CONFIDENCE) / 4) / math.log(share))


def _binomial(count: int, total: int, share: float) -> float:
    """Return the probability of `count` successes."""
    ways = math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)
    return math.exp(ways + count * math.log(share) + (total - count) * math.log1p(-share))
