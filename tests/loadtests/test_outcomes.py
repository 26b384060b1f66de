"""From single outcomes to figures."""

import math

import pytest

from loadtests.outcomes import (
    Outcome,
    errors,
    format_summaries,
    percentile,
    summarize,
    unserved,
)


def outcome(
    number: int = 0,
    *,
    stream: str = "online",
    due_s: float = 0.0,
    sent_s: float | None = None,
    done_s: float = 1.0,
    status: int = 200,
    failure: str = "",
    retry_after_ms: float | None = None,
) -> Outcome:
    """An outcome with what a test does not care about filled in."""
    sent_s = due_s if sent_s is None else sent_s
    return Outcome(stream, number, due_s, sent_s, done_s, status, failure, retry_after_ms)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)]
)
def test_percentile_is_a_value_that_occurred(share: float, expected: float) -> None:
    """Nearest rank, so that p99 of a hundred values is the 99th of them."""
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_percentile_of_nothing_is_no_number() -> None:
    """A load without answers has no latency."""
    assert math.isnan(percentile([], 0.5))


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A request that waited here for a connection is slow, and is said to have left late."""
    [summary] = summarize([outcome(due_s=1.0, sent_s=3.0, done_s=3.5)], 1.0)
    assert summary.p50_ms == pytest.approx(2500.0)
    assert summary.late_p99_ms == pytest.approx(2000.0)


def test_only_good_answers_count_as_served() -> None:
    """Refusals, wrong lengths and broken connections are told apart and give no latency."""
    outcomes = [
        outcome(0),
        outcome(1, done_s=9.0, status=503, retry_after_ms=40.0),
        outcome(2, done_s=9.0, failure="wrong length"),
        outcome(3, done_s=9.0, status=0, failure="broken"),
        outcome(4, done_s=9.0, status=500),
        outcome(0, stream="nightly", status=503, retry_after_ms=80.0),
        outcome(0, stream="nightly"),
        outcome(1, stream="nightly", status=503, retry_after_ms=80.0),
    ]
    nightly, online = summarize(outcomes, 2.0)
    assert online.answers == {"200": 1, "500": 1, "503": 1, "broken": 1, "wrong length": 1}
    assert (online.good_per_s, online.max_ms, online.retry_after_ms) == (0.5, 1000.0, 40.0)
    assert errors(outcomes) == {"500": 1, "broken": 1, "wrong length": 1}
    assert unserved([o for o in outcomes if o.stream == "nightly"]) == {1}
    table = format_summaries([nightly, online])
    assert "wrong length: 1" in table
    assert "retry_after_ms 80" in table
