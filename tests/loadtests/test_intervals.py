"""How sure ratios of percentiles are: what the intervals enclose, and where they have no end."""

import math
import random

import pytest

from loadtests.intervals import needed_for_both_ends, percentile_interval, ratio_interval


def test_interval_has_the_order_statistics_of_the_tables() -> None:
    """Median of 20 values at 95 %: the 6th and the 15th, as printed in tables of the sign test."""
    values = [float(value) for value in range(1, 21)]

    assert percentile_interval(values, 0.5, error=0.05) == (6.0, 15.0)


def test_interval_encloses_the_true_percentile_as_often_as_it_says() -> None:
    """Of a thousand samples of a known distribution, at most about a twentieth are missed."""
    dice = random.Random(7)
    true = -math.log(0.1)  # p90 of the exponential distribution
    missed = 0
    for _ in range(1000):
        low, high = percentile_interval(
            [dice.expovariate(1.0) for _ in range(100)], 0.9, error=0.05
        )
        missed += not low <= true <= high

    assert 10 < missed < 60


@pytest.mark.parametrize("share", [0.9, 0.99])
def test_percentile_of_few_requests_has_no_upper_end(share: float) -> None:
    """Nor has a ratio any end then; with as many as are named it has both."""
    enough = needed_for_both_ends(share)
    values = [100.0 + number for number in range(enough)]

    ratio, low, high = ratio_interval(values, values, share)
    few = ratio_interval(values[1:], values[1:], share)

    assert ratio == 1.0
    assert 0 < low < 1 < high < math.inf
    assert few == (1.0, 0.0, math.inf)


def test_ratio_of_clearly_different_loads_is_surely_above_one() -> None:
    """And its interval scales with the unit not at all."""
    alone = [100.0 + number / 10 for number in range(500)]
    together = [3 * value for value in alone]

    ratio, low, high = ratio_interval(together, alone, 0.99)

    assert ratio == pytest.approx(3.0)
    assert 2 < low < 3 < high < 4
    in_seconds = ratio_interval([ms / 1e3 for ms in together], [ms / 1e3 for ms in alone], 0.99)
    assert in_seconds == pytest.approx((ratio, low, high))


def test_no_answers_have_no_ratio() -> None:
    """A load without good answers is told as no number, not as an error."""
    ratio, low, high = ratio_interval([], [1.0], 0.9)

    assert math.isnan(ratio)
    assert (low, high) == (0.0, math.inf)
