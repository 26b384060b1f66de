"""Weighted estimators against NumPy, and intervals that cover what they should."""

import numpy as np
import pytest

from training.evaluation.judging.bootstrap import (
    Estimate,
    draw_tiles,
    interval,
    weighted_mean,
    weighted_median,
)


def test_draws_repeat_tiles_and_are_seeded() -> None:
    """Each sample holds as many tiles as there are; the same seed draws the same."""
    draws = draw_tiles(defect=6, clean=0, draws=50, seed=1)

    assert (50, 6) == draws.defect.shape
    assert (50, 0) == draws.clean.shape
    assert {6.0} == set(draws.defect.sum(axis=1).tolist())
    again = draw_tiles(defect=6, clean=0, draws=50, seed=1)
    assert draws.defect.tolist() == again.defect.tolist()
    other = draw_tiles(defect=6, clean=0, draws=50, seed=2)
    assert draws.defect.tolist() != other.defect.tolist()


def test_weighted_estimators_equal_numpys_on_repeated_values() -> None:
    """Weights are counts; values that are not numbers are left out."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=25)
    values[[3, 7]] = np.nan
    weights = draw_tiles(defect=25, clean=0, draws=40, seed=0).defect

    means, medians = weighted_mean(values, weights), weighted_median(values, weights)

    for row, counts in enumerate(weights.astype(int)):
        repeated = values.repeat(counts)
        assert means[row] == pytest.approx(np.nanmean(repeated))
        assert medians[row] == pytest.approx(np.nanmedian(repeated))


def test_nothing_to_estimate_is_not_a_number() -> None:
    """No values, or no weight on them."""
    assert np.isnan(weighted_median(np.array([np.nan]), np.ones((2, 1)))).all()
    assert np.isnan(weighted_mean(np.array([1.0, np.nan]), np.array([[0.0, 2.0]]))).all()


def test_a_paired_difference_is_found_under_larger_tile_noise() -> None:
    """Tiles differ by 5, methods by 0.5: pairing finds it, and the interval covers it."""
    rng = np.random.default_rng(1)
    tiles = rng.normal(0, 5, 60)
    first, second = tiles + 0.5 + rng.normal(0, 0.3, 60), tiles + rng.normal(0, 0.3, 60)
    weights = draw_tiles(defect=60, clean=0, draws=1000, seed=3).defect
    a, b = (
        Estimate(value=float(v.mean()), samples=weighted_mean(v, weights)) for v in (first, second)
    )

    difference = a.minus(b)

    assert difference.low < 0.5 < difference.high
    assert 0.2 < difference.low
    assert a.interval().low < 0 < a.interval().high


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    """Of 200 experiments about 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(2)
    weights = draw_tiles(defect=40, clean=0, draws=400, seed=4).defect
    covered = 0
    for _ in range(200):
        values = rng.normal(1.0, 2.0, 40)
        found = interval(float(values.mean()), weighted_mean(values, weights))
        covered += found.low <= 1.0 <= found.high

    assert 0.88 < covered / 200 < 0.99


def test_a_figure_without_samples_has_no_interval() -> None:
    """Its ends are not numbers; nor is a difference's."""
    single = Estimate(value=2.0)

    assert np.isnan([single.interval().low, single.minus(single).high]).all()
    assert 0.0 == single.minus(single).value
