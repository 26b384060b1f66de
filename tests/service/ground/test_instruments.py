"""Counters and histograms: their text is what the Prometheus client writes of the same values."""

import prometheus_client as client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ground.instruments import Counter, Histogram

BOUNDS = (0.001, 0.5, 1, 2.5, 30)
VALUES = st.lists(
    st.one_of(st.sampled_from([0.0, *BOUNDS, 1e9]), st.floats(0, 100, allow_nan=False)), max_size=20
)


def text(registry: client.CollectorRegistry) -> list[str]:
    """What is exported, without when it was made."""
    lines = client.generate_latest(registry).decode().split("\n")
    return [line for line in lines if "_created" not in line]


@settings(deadline=None)
@given(plain=VALUES, labelled=st.dictionaries(st.text(max_size=3), VALUES, max_size=3))
def test_the_text_is_that_of_the_client(plain: list[float], labelled: dict[str, list[float]]):
    """Values below, on and beyond the bounds, with labels that must be escaped and without."""
    texts: list[list[str]] = []
    for counters, histograms in ((Counter, Histogram), (client.Counter, client.Histogram)):
        registry = client.CollectorRegistry()
        count = counters("semsr_a", "A.", registry=registry)
        wait = histograms("semsr_b", "B.", buckets=BOUNDS, registry=registry)
        counts = counters("semsr_c", "C.", ("model", "how"), registry=registry)
        waits = histograms("semsr_d", "D.", ("model",), buckets=BOUNDS, registry=registry)
        for value in plain:
            count.inc(value)
            count.inc()
            wait.observe(value)
        for label, values in labelled.items():
            counts.labels(label, "x")
            for value in values:
                counts.labels(label, "x").inc(value)
                waits.labels(label).observe(value)
        texts.append(text(registry))

    assert texts[0] == texts[1]


def test_misuse_is_refused():
    """A second instrument of a name, other labels, a count that falls."""
    registry = client.CollectorRegistry()
    counts = Counter("semsr_a", "A.", ("model",), registry=registry)

    with pytest.raises(ValueError, match="semsr_a"):
        Counter("semsr_a", "A.", registry=registry)
    with pytest.raises(ValueError, match=r"semsr_a has the labels \('model',\); got \('x', 'y'\)"):
        counts.labels("x", "y")
    with pytest.raises(ValueError, match="got -1"):
        counts.labels("x").inc(-1)
