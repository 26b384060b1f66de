"""The outcome of each request of a load, and their figures."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loadtests.results import Column, format_table

REFUSALS = {429, 503}
_COLUMNS = [
    Column("name", "stream"),
    Column("sent", "sent"),
    Column("good_per_s", "good/s"),
    Column("p50_ms", "p50 ms", 2),
    Column("p90_ms", "p90 ms", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("max_ms", "max ms", 2),
    Column("late_p99_ms", "late p99", 2),
    Column("answers", "answers"),
]


class Outcome(NamedTuple):
    """One request that was sent; times are of `time.monotonic()`.

    Attributes:
        stream: Name of its stream.
        number: Number in its stream; a retried request keeps it.
        due_s: Time when it was due.
        sent_s: Time when it began to leave.
        done_s: Time when its answer was complete, or the request was given up.
        status: Status of the answer; 0 without one.
        failure: Empty, or `broken` (the connection ended), `unanswered` (in time), `not sent` (no
            connection became free) or `wrong length`.
        retry_after_ms: Retry time that a refusal named, or None.
    """

    stream: str
    number: int
    due_s: float
    sent_s: float
    done_s: float
    status: int
    failure: str
    retry_after_ms: float | None

    @property
    def is_good(self) -> bool:
        """Whether the answer is a whole picture."""
        return self.status == 200 and not self.failure

    @property
    def is_refused(self) -> bool:
        """Whether the service rejected it for now (429, 503)."""
        return self.status in REFUSALS and not self.failure

    @property
    def label(self) -> str:
        """Status, or the failure if there is one."""
        return self.failure or str(self.status)

    @property
    def latency_s(self) -> float:
        """Seconds from the time when it was due to the whole answer."""
        return self.done_s - self.due_s


@dataclass(frozen=True)
class Summary:
    """Figures of one stream.

    Attributes:
        name: Name of the stream.
        sent: Number of requests, retries included.
        answers: Number of outcomes by status or failure.
        good_per_s: Good answers per second of the load.
        p50_ms: Latency of good answers from when they were due; NaN without any.
        p90_ms: 90th percentile of the same latency.
        p99_ms: 99th percentile of it.
        max_ms: Maximum of it.
        late_p99_ms: 99th percentile of the delay with which requests left, because of the generator
            or because no connection was free. Above a few milliseconds the load was not the
            requested one.
        retry_after_ms: Median of the retry times that refusals named; None without any.
    """

    name: str
    sent: int
    answers: dict[str, int]
    good_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    late_p99_ms: float
    retry_after_ms: float | None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that a share (0 to 1) of all do not exceed; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summarize(outcomes: Sequence[Outcome], seconds: float) -> list[Summary]:
    """Return the figures of every stream, by name.

    Args:
        outcomes: Outcomes of all streams.
        seconds: Length of the load.
    """
    names = sorted({outcome.stream for outcome in outcomes})
    return [
        _summarize_stream(name, [o for o in outcomes if o.stream == name], seconds)
        for name in names
    ]


def _summarize_stream(name: str, outcomes: Sequence[Outcome], seconds: float) -> Summary:
    good_ms = [1e3 * outcome.latency_s for outcome in outcomes if outcome.is_good]
    late_ms = [1e3 * (outcome.sent_s - outcome.due_s) for outcome in outcomes]
    named_ms = [o.retry_after_ms for o in outcomes if o.retry_after_ms is not None]
    return Summary(
        name=name,
        sent=len(outcomes),
        answers=dict(sorted(Counter(outcome.label for outcome in outcomes).items())),
        good_per_s=len(good_ms) / seconds,
        p50_ms=percentile(good_ms, 0.5),
        p90_ms=percentile(good_ms, 0.9),
        p99_ms=percentile(good_ms, 0.99),
        max_ms=max(good_ms, default=math.nan),
        late_p99_ms=percentile(late_ms, 0.99),
        retry_after_ms=percentile(named_ms, 0.5) if named_ms else None,
    )


def errors(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Count the outcomes that are neither good nor a refusal, by label."""
    bad = [o.label for o in outcomes if not o.is_good and not o.is_refused]
    return dict(sorted(Counter(bad).items()))


def unserved(outcomes: Sequence[Outcome]) -> set[int]:
    """Return the numbers of one stream's requests that were never served."""
    served = {outcome.number for outcome in outcomes if outcome.is_good}
    return {outcome.number for outcome in outcomes} - served


def format_summaries(summaries: Sequence[Summary]) -> str:
    """Write the summaries as a table for people."""
    return format_table(_COLUMNS, [{**vars(row), "answers": _answers(row)} for row in summaries])


def _answers(summary: Summary) -> str:
    answers = ", ".join(f"{label}: {count}" for label, count in summary.answers.items())
    if summary.retry_after_ms is None:
        return answers
    return f"{answers} (retry_after_ms {summary.retry_after_ms:.0f}, median)"
