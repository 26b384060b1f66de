"""Metrics of several processes as if they were one.

Every process writes its metrics into its row of the arena once a second; the process that answers
`/metrics` adds them up. A restarted process continues the counters of its predecessor, so that no
counter ever decreases.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

FORMAT_VERSION = 1

# Gauges that do not add up: the largest counts, or the smallest.
_LARGEST = frozenset(
    {
        "semsr_model_info",
        "semsr_event_loop_lag_seconds",
        # Every front end reads them in the same list.
        "semsr_scans",
        "semsr_scan_late_seconds",
        "semsr_scan_remaining_seconds",
        "python_info",
        "process_max_fds",
    }
)
_SMALLEST = frozenset({"process_start_time_seconds"})


def pack(families: Iterable[Metric]) -> bytes:
    """Write metrics as a snapshot."""
    content = {
        "format_version": FORMAT_VERSION,
        "families": [
            [
                family.name,
                family.documentation,
                family.type,
                # The creation time of a counter means nothing for one that processes share.
                [
                    [sample.name, _text(sample.labels), float(sample.value)]
                    for sample in family.samples
                    if not sample.name.endswith("_created")
                ],
            ]
            for family in families
        ],
    }
    return orjson.dumps(content)


def parse(content: bytes) -> list[Metric]:
    """Read what `pack` wrote; empty content gives no metrics.

    Raises:
        ValueError: It has another version.
    """
    if not content:
        return []
    fields: dict[str, Any] = orjson.loads(content)
    if fields.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"a metric snapshot of version {fields.get('format_version')}; "
            f"expected {FORMAT_VERSION}"
        )
    families: list[Metric] = []
    for name, documentation, kind, samples in fields["families"]:
        family = Metric(name, documentation, kind)
        family.samples = [Sample(*sample) for sample in samples]
        families.append(family)
    return families


def counters_only(families: Iterable[Metric]) -> list[Metric]:
    """Return the counters and histograms of a process, without its gauges."""
    return [family for family in families if family.type in {"counter", "histogram", "summary"}]


def merge(sets: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Combine the metrics of several processes: sums, for some gauges extremes."""
    merged: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in sets:
        for family in families:
            own = merged.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            known = values.setdefault(own.name, {})
            for sample in family.samples:
                key = sample.name, tuple(sorted(_text(sample.labels).items()))
                known[key] = (
                    _together(own.name, known[key], sample.value) if key in known else sample.value
                )
    for name, family in merged.items():
        family.samples = [
            Sample(sample_name, dict(labels), value)
            for (sample_name, labels), value in values[name].items()
        ]
    return list(merged.values())


def _together(family: str, first: float, second: float) -> float:
    if family in _LARGEST:
        return max(first, second)
    if family in _SMALLEST:
        return min(first, second)
    return first + second


def _text(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels as text, as some of them are enum members."""
    return {name: str(value) for name, value in labels.items()}
