"""Learning rates: warm-up and cosine of both trainings, and CycleGAN's schedule."""

import pytest

from training.config.recipe import OptimizationConfig
from training.detector.train import FINAL_RATE_SHARE, WARM_UP_STEPS
from training.run.schedule import learning_rate
from training.trainer import rate_share


def test_rate_rises_then_falls_as_a_cosine() -> None:
    """Warm-up to the peak, half way down in the middle, the final rate at the end."""
    options = OptimizationConfig(
        steps=110, warm_up_steps=10, learning_rate=1e-2, final_learning_rate=1e-4
    )

    assert 0.1 == pytest.approx(rate_share(0, options))
    assert 1.0 == pytest.approx(rate_share(9, options))
    assert 1.0 == pytest.approx(rate_share(10, options))
    assert (1.0 + 0.01) / 2 == pytest.approx(rate_share(60, options))
    assert 0.01 == pytest.approx(rate_share(110, options))


def test_the_detectors_rate_warms_up_and_falls_to_a_hundredth() -> None:
    """Linear for 100 steps, then a cosine."""
    rates = [
        learning_rate(
            step,
            steps=500,
            warm_up_steps=WARM_UP_STEPS,
            final_share=FINAL_RATE_SHARE,
            peak=1e-3,
        )
        for step in (0, 100, 300, 500)
    ]

    assert [1e-5, 1e-3, (1e-3 + 1e-5) / 2, 1e-5] == pytest.approx(rates)


def test_constant_then_linear_is_cyclegans_schedule() -> None:
    """Half the steps at full rate, then a straight line to zero."""
    options = OptimizationConfig(schedule="constant_then_linear", warm_up_steps=0, steps=100)

    shares = [rate_share(step, options) for step in (0, 50, 75, 100)]

    assert [1.0, 1.0, 0.5, 0.0] == pytest.approx(shares)


def test_halved_by_thirds_is_the_schedule_of_lir() -> None:
    """Full rate, half and a quarter, for a third of the run each; never less."""
    options = OptimizationConfig(schedule="halved_by_thirds", warm_up_steps=0, steps=300)

    shares = [rate_share(step, options) for step in (0, 99, 100, 199, 200, 300)]

    assert [1.0, 1.0, 0.5, 0.5, 0.25, 0.25] == pytest.approx(shares)
