"""Grain of flats in dB: of sets, at equal greys, scene by scene."""

import numpy as np
import pytest

from training.evaluation.measures.flat_grain import flat_grain_db, flat_power, grain_by_scene


def film(level: float, sigma: float, seed: int) -> np.ndarray:
    """Draw a flat picture with white grain, (128, 128) uint8."""
    rng = np.random.default_rng(seed)
    return np.clip(np.rint(level + sigma * rng.standard_normal((128, 128))), 0, 255).astype("uint8")


def test_twice_the_grain_is_six_db() -> None:
    """In every band, whichever of the two is the reference."""
    once, twice = flat_power(film(100, 6, 0)), flat_power(film(100, 12, 1))

    assert 6.02 == pytest.approx(float(flat_grain_db(once, twice)), abs=0.4)
    assert 6.02 == pytest.approx(float(flat_grain_db(twice, once)), abs=0.4)
    assert float(flat_grain_db(once, once)) == 0


def test_sets_are_sums() -> None:
    """Pictures of several greys: each grey is compared with its own."""
    ours = flat_power(film(40, 3, 0)) + flat_power(film(160, 6, 1))
    theirs = flat_power(film(40, 3, 2)) + flat_power(film(160, 6, 3))
    swapped = flat_power(film(40, 6, 4)) + flat_power(film(160, 3, 5))

    assert float(flat_grain_db(ours, theirs)) < 0.6
    assert 6.02 == pytest.approx(float(flat_grain_db(swapped, theirs)), abs=0.5)
    assert np.isnan(flat_grain_db(flat_power(film(40, 3, 0)), flat_power(film(160, 3, 1))))


def test_scenes_are_averaged_and_unknown_ones_left_out() -> None:
    """Two kinds, one of them right: half of its error; weights choose tiles."""
    powers = np.array([flat_power(film(100, 6, n)) for n in range(2)])
    reference = {"a": flat_power(film(100, 6, 7)), "b": flat_power(film(100, 12, 8))}

    [both] = grain_by_scene(powers, ["a", "b"], reference)
    first, second = grain_by_scene(
        powers, ["a", "b"], reference, weights=np.array([[1.0, 0.0], [0.0, 1.0]])
    )

    assert 3.0 == pytest.approx(both, abs=0.5)
    assert first < 0.6
    assert 6.02 == pytest.approx(second, abs=0.4)
    assert np.isnan(grain_by_scene(powers, ["x", "y"], reference)).all()
