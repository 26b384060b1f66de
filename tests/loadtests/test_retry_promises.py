"""What a refusal promised against what came."""

import math

import pytest

from loadtests.outcomes import Outcome
from loadtests.retry_promises import promises, summarize_promises


def served(sent_s: float, done_s: float) -> Outcome:
    """An admitted request."""
    return Outcome("x", 0, sent_s, sent_s, done_s, 200, "", None)


def refused(sent_s: float, done_s: float, retry_after_ms: float | None) -> Outcome:
    """A refused one."""
    return Outcome("x", 0, sent_s, sent_s, done_s, 503, "", retry_after_ms)


def test_true_time_is_when_all_that_was_sent_before_is_done() -> None:
    """Later requests do not count, and the last to end need not be the last that was sent."""
    outcomes = [
        served(0.0, 5.0),
        served(1.0, 3.0),
        refused(2.0, 2.5, 5000.0),
        served(2.1, 9.0),
    ]
    [promise] = promises(outcomes)
    assert (promise.named_s, promise.true_s, promise.ratio) == (5.0, 2.5, 2.0)


def test_refusal_without_anything_waiting_is_never_within_the_factor() -> None:
    """A service that is idle and refuses has promised nonsense."""
    [promise] = promises([served(0.0, 1.0), refused(2.0, 2.1, 50.0)])
    assert promise.ratio == math.inf
    assert summarize_promises([promise]).within_factor == 0.0


def test_other_errors_are_no_promises() -> None:
    """Refusals without a time, and answers that are none, are left out."""
    broken = Outcome("x", 0, 0.0, 0.0, 1.0, 503, "broken", 10.0)
    assert promises([served(0.0, 4.0), refused(1.0, 1.1, None), broken]) == []


def test_summary_counts_what_lies_within_a_factor_of_two() -> None:
    """Both bounds belong to it."""
    outcomes = [served(0.0, 10.0)]
    outcomes += [refused(1.0, 2.0, 1e3 * named_s) for named_s in (3.9, 4.0, 8.0, 16.0, 16.1)]
    summary = summarize_promises(promises(outcomes))
    assert summary.count == 5
    assert summary.within_factor == pytest.approx(0.6)
    assert summary.ratio_p50 == pytest.approx(1.0)
    assert math.isnan(summarize_promises([]).within_factor)
