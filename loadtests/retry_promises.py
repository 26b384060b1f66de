"""Compares each refusal's `retry_after_ms` with the time that the queue then took to drain.

A request is refused when the queue is too long. At that time the queue held the requests that left
before the refused one and were served after its refusal. It had drained when the last of them was
answered. The client's own records show all of this. Requests that left just before the refused one
may have been admitted just after it, which makes the true time longer by at most a tile.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.outcomes import Outcome, percentile

FACTOR = 2.0


@dataclass(frozen=True)
class Promise:
    """One refusal.

    Attributes:
        named_s: Seconds that it named.
        true_s: Seconds from the refusal until its queue had drained; 0 if it had already.
    """

    named_s: float
    true_s: float

    @property
    def ratio(self) -> float:
        """Named over true; infinite where nothing waited."""
        return self.named_s / self.true_s if self.true_s > 0 else float("inf")


def promises(outcomes: Sequence[Outcome]) -> list[Promise]:
    """Compare each refusal's retry time with the true time, except refusals that name no time.

    Args:
        outcomes: Outcomes of the whole load, all streams.
    """
    served = sorted((o.sent_s, o.done_s) for o in outcomes if o.is_good)
    sent_s = [sent for sent, _ in served]
    # Latest end among the first n requests.
    last_done_s = [0.0]
    for _, done_s in served:
        last_done_s.append(max(last_done_s[-1], done_s))
    found: list[Promise] = []
    for refusal in outcomes:
        if not refusal.is_refused or refusal.retry_after_ms is None:
            continue
        drained_s = last_done_s[bisect.bisect_left(sent_s, refusal.sent_s)]
        true_s = max(0.0, drained_s - refusal.done_s)
        found.append(Promise(refusal.retry_after_ms / 1e3, true_s))
    return found


@dataclass(frozen=True)
class PromiseSummary:
    """All refusals of a load.

    Attributes:
        count: Number of refusals that named a time.
        ratio_p5: 5th percentile of named over true.
        ratio_p50: Median of that ratio.
        ratio_p95: 95th percentile of that ratio.
        within_factor: Share (0 to 1) of them within a factor of two.
    """

    count: int
    ratio_p5: float
    ratio_p50: float
    ratio_p95: float
    within_factor: float


def summarize_promises(found: Sequence[Promise]) -> PromiseSummary:
    """Return the figures of all refusals; NaN without refusals."""
    ratios = [promise.ratio for promise in found]
    within = [1 / FACTOR <= ratio <= FACTOR for ratio in ratios]
    return PromiseSummary(
        count=len(found),
        ratio_p5=percentile(ratios, 0.05),
        ratio_p50=percentile(ratios, 0.5),
        ratio_p95=percentile(ratios, 0.95),
        within_factor=sum(within) / len(within) if within else float("nan"),
    )
