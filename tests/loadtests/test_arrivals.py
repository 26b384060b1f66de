"""Arrival times: fixed beforehand, as many as asked for."""

import itertools

import pytest

from loadtests.arrivals import constant, poisson


def test_constant_arrivals_are_evenly_apart() -> None:
    """So many in a second, from 0 on."""
    assert constant(4.0, 1.0) == [0.0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_have_rate_and_spread_of_a_poisson_process() -> None:
    """Distances have the mean of the rate, and a standard deviation as large."""
    times = poisson(50.0, 200.0, seed=1)
    distances = [after - before for before, after in itertools.pairwise(times)]
    mean = sum(distances) / len(distances)
    variance = sum((distance - mean) ** 2 for distance in distances) / len(distances)
    assert mean == pytest.approx(1 / 50.0, rel=0.05)
    assert variance**0.5 == pytest.approx(mean, rel=0.1)
    assert times == sorted(times)
    assert times[-1] < 200.0


def test_poisson_arrivals_repeat_with_their_seed() -> None:
    """Two cases can be given the same load."""
    assert poisson(5.0, 10.0, seed=3) == poisson(5.0, 10.0, seed=3)
    assert poisson(5.0, 10.0, seed=3) != poisson(5.0, 10.0, seed=4)
