"""Likelihoods of shifts, window by window."""

import numpy as np
import pytest

from training.registration.fields import Fields
from training.registration.window_scores import WindowScores, score_windows


@pytest.fixture
def scores(rng: np.random.Generator) -> WindowScores:
    """Scores of noise that HR shows shifted by (2, -3), at scale 1."""
    lr = rng.standard_normal((60, 64)).astype(np.float32)
    hr = np.roll(lr, (2, -3), (0, 1))
    return score_windows(lr, hr, Fields((60, 64), (60, 64), 1), max_shift_px=5)


def test_sums_are_those_of_the_definition(rng: np.random.Generator) -> None:
    """Covariance and energy of a window at a shift equal the direct sums."""
    lr = rng.standard_normal((60, 64)).astype(np.float32)
    hr = rng.standard_normal((62, 64)).astype(np.float32)
    found = score_windows(lr, hr, Fields((60, 64), (62, 64), 1), max_shift_px=5)

    # Origin (1, 0): rows 4 to 56 and columns 5 to 59 stay inside, as 3 x 3 windows.
    window = lr[4:21, 5:23]
    moved = hr[4 + 1 + 2 : 21 + 1 + 2, 5 - 4 : 23 - 4]
    assert (9, 11, 11) == found.covariance.shape
    assert found.covariance[0, 5 + 2, 5 - 4] == pytest.approx((window * moved).sum(), rel=1e-4)
    assert found.energy[0, 5 + 2, 5 - 4] == pytest.approx((moved**2).sum(), rel=1e-5)
    assert found.lr_energy[0] == pytest.approx((window**2).sum(), rel=1e-5)


def test_best_shift_is_the_true_one(scores: WindowScores) -> None:
    """Its correlation is 1."""
    assert (5 + 2, 5 - 3) == scores.best
    assert scores.correlation.max() == pytest.approx(1.0, abs=1e-5)
    assert scores.of_opposite_contrast().correlation.min() == pytest.approx(-1.0, abs=1e-5)


def test_true_shift_is_clearly_better_and_equal_to_itself(scores: WindowScores) -> None:
    """A shift that explains nothing loses everything; the same shift loses nothing."""
    best = scores.scores[:, *scores.best]
    other = scores.preference(best, scores.scores[:, 0, 0])
    assert other.loss > 0.5
    assert other.is_clear()
    same = scores.preference(best, best)
    assert 0 == same.loss
    assert not same.is_clear()


def test_small_loss_counts_only_above_the_noise(rng: np.random.Generator) -> None:
    """The same mean difference is clear with steady windows, and not with scattered ones."""
    windows = 49
    found = WindowScores(
        covariance=np.ones((windows, 3, 3), np.float32),
        energy=np.ones((windows, 3, 3), np.float32),
        lr_energy=np.full(windows, 1e3),
        samples=1.0,
    )
    first = np.ones(windows)
    steady = first - 0.01 - 0.001 * rng.standard_normal(windows)
    scattered = first - 0.01 - 0.2 * rng.standard_normal(windows)
    assert found.preference(first, steady).is_clear()
    assert not found.preference(first, scattered).is_clear()
