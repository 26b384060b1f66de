"""Counters and histograms for one thread: they take no lock, and cost next to nothing to record.

The instruments of prometheus-client may be used from any thread. They take a lock, and 5 µs for
each recording; a raw tile needs 15. The instruments here must be used on the event loop only
(`docs/adr/0021-instruments-of-one-thread.md`). Registry, text format and gauges are the library's.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric


class Count:
    """A sum that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add an amount.

        Raises:
            ValueError: The amount is below 0.
        """
        if amount < 0:
            raise ValueError(
                f"a counter only grows; expected an amount of at least 0, got {amount}"
            )
        self.value += amount


class Observations:
    """Counts of values by bucket, and the sum of the values."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        # The last bucket holds values beyond every bound.
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value in the first bucket whose upper bound is at least the value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


Child = TypeVar("Child", Count, Observations)


class _Instrument(Generic[Child]):
    """Children by the values of their labels; without labels, one child exists at once."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._text = text
        self._label_names = tuple(labels)
        self._children: dict[tuple[str, ...], Child] = {}
        self._only: Child | None = None if labels else self.labels()
        registry.register(self)

    def labels(self, *values: str) -> Child:
        """Return the child with these labels; it is exported from then on.

        Raises:
            ValueError: There are more or fewer labels than values.
        """
        if len(values) != len(self._label_names):
            raise ValueError(f"{self._name} has the labels {self._label_names}; got {values}")
        key = tuple(map(str, values))
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._make()
        return child

    def describe(self) -> Iterable[Metric]:
        """Return the name, so that the registry can reject a second instrument of that name."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """Return the current values."""
        raise NotImplementedError

    def _make(self) -> Child:
        raise NotImplementedError

    def _family(self) -> Metric:
        raise NotImplementedError


class Counter(_Instrument[Count]):
    """Counts by labels."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str] = (), *, registry: CollectorRegistry
    ) -> None:
        """Register it.

        Args:
            name: Name without the ending `_total`.
            text: Help text.
            labels: Names of the labels.
            registry: Registry that collects its values.
        """
        super().__init__(name, text, labels, registry=registry)

    def inc(self, amount: float = 1.0) -> None:
        """Add to the one child of a counter without labels."""
        (self._only or self.labels()).inc(amount)

    def collect(self) -> Iterable[Metric]:
        """Return the current values."""
        family = self._family()
        for key, child in list(self._children.items()):
            family.add_metric(key, child.value)
        return [family]

    def _make(self) -> Count:
        return Count()

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self._name, self._text, labels=self._label_names)


class Histogram(_Instrument[Observations]):
    """Observations by labels."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """Register it.

        Args:
            name: Name of the metric.
            text: Help text.
            labels: Names of the labels.
            buckets: Rising upper bounds of buckets; a last bucket without a bound is added.
            registry: Registry that collects its values.
        """
        self._bounds = tuple(map(float, buckets))
        super().__init__(name, text, labels, registry=registry)

    def observe(self, value: float) -> None:
        """Count a value in the one child of a histogram without labels."""
        (self._only or self.labels()).observe(value)

    def collect(self) -> Iterable[Metric]:
        """Return the current values."""
        family = self._family()
        names = [*map(str, self._bounds), "+Inf"]
        for key, child in list(self._children.items()):
            below = 0
            buckets: list[tuple[str, float]] = []
            for name, count in zip(names, child.counts, strict=True):
                below += count
                buckets.append((name, float(below)))
            family.add_metric(key, buckets, child.sum)
        return [family]

    def _make(self) -> Observations:
        return Observations(self._bounds)

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._text, labels=self._label_names)
