"""Relativistic average losses: closed forms."""

import math

import pytest
import torch

from training.losses.relativistic_average import relativistic_average_d, relativistic_average_g


def test_equal_logits_cost_ln_2() -> None:
    """Both sides, whatever the logit: only differences count."""
    for level in (-3.0, 0.0, 40.0):
        logits = torch.full((4, 1), level)
        assert math.log(2) == pytest.approx(float(relativistic_average_d(logits, logits)))
        assert math.log(2) == pytest.approx(float(relativistic_average_g(logits, logits)))


def test_losses_are_binary_cross_entropies_against_the_mean_of_the_other_kind() -> None:
    """Written out by hand; the generator's swaps the labels."""
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -2.5, 1.0])
    above = [float(x - fake.mean()) for x in real]
    below = [float(x - real.mean()) for x in fake]

    def log_sigmoid(x: float) -> float:
        return -math.log1p(math.exp(-x))

    d = -(sum(map(log_sigmoid, above)) / 2 + sum(log_sigmoid(-x) for x in below) / 3) / 2
    g = -(sum(log_sigmoid(-x) for x in above) / 2 + sum(map(log_sigmoid, below)) / 3) / 2
    assert d == pytest.approx(float(relativistic_average_d(real, fake)), rel=1e-6)
    assert g == pytest.approx(float(relativistic_average_g(real, fake)), rel=1e-6)


def test_generator_is_pulled_towards_real_and_discriminator_away() -> None:
    """Signs of the gradients."""
    fake = torch.zeros(3, requires_grad=True)
    relativistic_average_g(torch.ones(3), fake).backward()
    assert fake.grad is not None
    assert bool((fake.grad < 0).all())
    real = torch.zeros(3, requires_grad=True)
    relativistic_average_d(real, torch.ones(3)).backward()
    assert real.grad is not None
    assert bool((real.grad < 0).all())
