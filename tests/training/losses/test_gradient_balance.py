"""The running weight of the adversarial term."""

import pytest
import torch

from training.losses.gradient_balance import GradientBalance


def update(balance: GradientBalance, structure: float, gan: float) -> float:
    """Take a step whose gradients have these norms."""
    sr = torch.ones(1, 1, 2, 2, requires_grad=True)  # a sum's gradient has a norm of 2
    return balance.update(structure * sr.sum() / 2, gan * sr.sum() / 2, sr)


def test_the_first_ratio_starts_the_mean_and_later_ones_move_it() -> None:
    """1 before; then 3; then 0.95 * 3 + 0.05 * 5."""
    balance = GradientBalance()

    assert 1.0 == balance.weight
    assert update(balance, 6.0, 2.0) == pytest.approx(3.0)
    assert update(balance, 5.0, 1.0) == pytest.approx(3.1)
    assert balance.weight == pytest.approx(3.1)


def test_weighted_gradients_are_equally_strong() -> None:
    """The aim: |weight * dL_GAN| = |dL_structure|."""
    draws = torch.Generator().manual_seed(0)
    sr = torch.rand(2, 1, 4, 4, generator=draws, requires_grad=True)
    structure, gan = (sr**3).mean(), 1e-3 * (sr - 1).abs().sum()

    weight = GradientBalance().update(structure, gan, sr)

    of_structure, of_gan = (
        torch.autograd.grad(loss, sr, retain_graph=True)[0].norm() for loss in (structure, gan)
    )
    assert weight * float(of_gan) == pytest.approx(float(of_structure))


def test_extremes_are_clamped_or_ignored() -> None:
    """No adversarial gradient counts as the limit; none at all, or NaN, counts for nothing."""
    balance = GradientBalance(momentum=0.0)

    assert 200.0 == update(balance, 1.0, 0.0)
    assert 200.0 == update(balance, 0.0, 0.0)
    assert 200.0 == update(balance, float("nan"), 1.0)
    assert 0.0 == update(balance, 0.0, 1.0)


def test_it_resumes() -> None:
    """A restored balance continues as the first would have."""
    first, second = GradientBalance(), GradientBalance()
    update(first, 4.0, 1.0)
    second.load_state_dict(first.state_dict())

    assert update(first, 1.0, 2.0) == update(second, 1.0, 2.0)


def test_bad_arguments_are_refused() -> None:
    """A momentum of 1 would never move."""
    with pytest.raises(ValueError, match=r"momentum in \[0, 1\)"):
        GradientBalance(momentum=1.0)
