"""The rule of the learning rate on series that are made up."""

import numpy as np
import pytest

from training.internal_learning.rate import RateRule, slope_and_error


def run(errors: list[float] | None, *, steps: int, stop: float = 9e-6) -> dict[int, float]:
    """Feed a rule; return the rate from each step on at which it changed, and the last step."""
    rule = RateRule(steps=steps, start=1e-3, stop=stop)
    changes, rate, number = {}, rule.rate, 0
    while not rule.is_over:
        rule.count()
        if rule.needs_error():
            rule.note(1.0 if errors is None else errors[number])
            number += 1
        rule.check()
        if rule.rate != rate:
            rate = rule.rate
            changes[rule.step] = rate
    changes[rule.step] = rule.rate
    return changes


def test_the_line_is_that_of_least_squares() -> None:
    """Slope and standard error are NumPy's for the same points."""
    x, y = [0, 50, 100, 150, 200], [5.0, 3.0, 4.0, 1.0, 2.0]
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)

    assert (slope, covariance[0, 0] ** 0.5) == pytest.approx(slope_and_error(x, y), rel=1e-9)


def test_two_points_have_no_error() -> None:
    """The residual of a line through two points says nothing."""
    with pytest.raises(ValueError, match="2 points, expected at least 3"):
        slope_and_error([0, 1], [1.0, 2.0])


def test_a_steady_descent_keeps_the_rate() -> None:
    """A straight descent has no error: the rate stays for all 3,000 steps."""
    falling = [1.0 - 0.01 * k for k in range(60)]

    assert {3000: 1e-3} == run(falling, steps=3000)


def test_a_plateau_lowers_the_rate_to_the_end() -> None:
    """The check after 256 steps is that of step 300; then every 300 steps until below 9e-6."""
    jitter = np.random.default_rng(1).normal(1.0, 0.1, 60).tolist()

    changes = run(jitter, steps=3000)

    assert [300, 600, 900] == list(changes)
    assert [1e-4, 1e-5, 1e-6] == pytest.approx(list(changes.values()))


def test_the_thesis_goes_one_rate_further() -> None:
    """With a stop of 1e-6 the run ends below it, at 1e-7."""
    jitter = np.random.default_rng(1).normal(1.0, 0.1, 60).tolist()

    assert 1e-7 == pytest.approx(list(run(jitter, steps=3000, stop=1e-6).values())[-1])


def test_the_descent_counts_half_again() -> None:
    """The rate falls when 1.5 descents are below the error, not when one is."""
    x = np.arange(6) * 50.0
    wiggle = np.array([1.0, -2.0, 2.0, -2.0, 1.0])
    wiggle -= np.polyval(np.polyfit(x[1:], wiggle, 1), x[1:])
    _, error = slope_and_error([50, 100, 150, 200, 250], list(wiggle))
    for share, expected in ((0.6, 1e-4), (0.7, 1e-3)):
        line = -share * error * x[1:] + wiggle
        # The check at step 300 sees the values of steps 100 to 300.
        values = [0.0, *line, *([0.0] * 54)]
        rule = RateRule(steps=3000, start=1e-3, stop=9e-6)
        while rule.step < 300:
            rule.count()
            if rule.needs_error():
                rule.note(values[rule.step // 50 - 1])
            rule.check()
        assert expected == pytest.approx(rule.rate)


def test_a_short_run_ends_at_lower_rates() -> None:
    """After 70 % of its steps the rate is a tenth, after 90 % a hundredth, without a plateau."""
    falling = [1.0 - 0.01 * k for k in range(60)]

    changes = run(falling, steps=400)

    assert [280, 360, 400] == list(changes)
    assert [1e-4, 1e-5, 1e-5] == pytest.approx(list(changes.values()))


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_a_run_of_a_few_steps_takes_them_all(steps: int) -> None:
    """The rule needs five points, and the run ends without them."""
    assert steps == max(run([1.0] * 60, steps=steps))
