"""Batches that a running service forms, from its metrics."""

from dataclasses import dataclass

import httpx2
from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 20.0
_SUMS = (
    "semsr_batch_size_sum",
    "semsr_batch_duration_seconds_sum",
    "semsr_batch_duration_seconds_count",
)


@dataclass(frozen=True)
class BatchTotals:
    """Totals of all batches so far, over all models.

    Attributes:
        tiles: Number of tiles.
        seconds: Time in the engine.
        batches: Number of batches.
    """

    tiles: float
    seconds: float
    batches: float

    def __sub__(self, earlier: "BatchTotals") -> "BatchTotals":
        """Return the totals since an earlier time."""
        return BatchTotals(
            self.tiles - earlier.tiles,
            self.seconds - earlier.seconds,
            self.batches - earlier.batches,
        )

    def row(self) -> dict[str, float]:
        """Return `mean_batch` in tiles and `batch_ms`, the mean time of a batch in the engine."""
        if not self.batches:
            return {}
        return {
            "mean_batch": self.tiles / self.batches,
            "batch_ms": 1e3 * self.seconds / self.batches,
        }


def read_totals(url: str) -> BatchTotals:
    """Read the totals of a service.

    Raises:
        httpx2.HTTPError: The service does not answer with its metrics.
    """
    answer = httpx2.get(f"{url}/metrics", trust_env=False, timeout=_TIMEOUT_S)
    return parse_totals(answer.raise_for_status().text)


def parse_totals(text: str) -> BatchTotals:
    """Read the totals from Prometheus' text format; absent metrics count as 0."""
    sums = dict.fromkeys(_SUMS, 0.0)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in sums:
                sums[sample.name] += sample.value
    return BatchTotals(*(sums[name] for name in _SUMS))
