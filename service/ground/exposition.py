"""Metrics in the text format of Prometheus."""

from collections.abc import Iterable
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric


class _Families:
    """The part of a registry that `generate_latest` uses."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(families: Iterable[Metric]) -> bytes:
    """Write metrics in Prometheus' text format."""
    return generate_latest(cast("CollectorRegistry", _Families(families)))
