"""Adversarial losses and the gradient penalty against hand-written values."""

import math

import numpy as np
import pytest
import torch

from training.losses.gan import (
    lsgan_d,
    lsgan_g,
    relativistic_d,
    relativistic_g,
    vanilla_d,
    vanilla_g,
    zero_centred_penalty,
)

REAL = np.array([[0.3, -1.2], [2.0, 0.7]])
FAKE = np.array([[-0.5, 0.1], [1.5, -2.0]])


def test_losses_equal_the_formulas() -> None:
    """Each as its paper writes it, with plain exponentials and logarithms."""
    real, fake = torch.from_numpy(REAL), torch.from_numpy(FAKE)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    least_squares = 0.5 * (((REAL - 1) ** 2).mean() + (FAKE**2).mean())
    assert float(lsgan_d(real, fake)) == pytest.approx(least_squares)
    assert float(lsgan_g(fake)) == pytest.approx(((FAKE - 1) ** 2).mean())
    entropy = 0.5 * (-np.log(sigmoid(REAL)).mean() - np.log(1 - sigmoid(FAKE)).mean())
    assert float(vanilla_d(real, fake)) == pytest.approx(entropy)
    assert float(vanilla_g(fake)) == pytest.approx(-np.log(sigmoid(FAKE)).mean())
    assert float(relativistic_d(real, fake)) == pytest.approx(-np.log(sigmoid(REAL - FAKE)).mean())
    assert float(relativistic_g(real, fake)) == pytest.approx(-np.log(sigmoid(FAKE - REAL)).mean())


def test_an_undecided_discriminator_has_the_known_losses() -> None:
    """It is ln 2 for the cross-entropies, a quarter for least squares at 1/2."""
    zero = torch.zeros(3, 1, 4, 4)

    assert float(vanilla_d(zero, zero)) == pytest.approx(math.log(2))
    assert float(vanilla_g(zero)) == pytest.approx(math.log(2))
    assert float(relativistic_d(zero + 5, zero + 5)) == pytest.approx(math.log(2))
    assert float(lsgan_d(zero + 0.5, zero + 0.5)) == pytest.approx(0.25)


def test_a_confident_discriminator_leaves_the_generator_a_gradient() -> None:
    """Non-saturating: at logits of -30 the slope is still -1, and nothing overflows at -1000."""
    fake = torch.tensor([-30.0, -1000.0], requires_grad=True)

    # Against a real logit of 0 the relativistic loss of the generator is softplus(-fake).
    relativistic_g(torch.zeros(2), fake).backward()

    torch.testing.assert_close(fake.grad, torch.tensor([-0.5, -0.5]))
    fake.grad = None
    vanilla_g(fake).backward()
    torch.testing.assert_close(fake.grad, torch.tensor([-0.5, -0.5]))


def test_pairs_of_unequal_batches_are_refused() -> None:
    """Relativistic logits are paired one to one; broadcasting would pair all with one."""
    with pytest.raises(ValueError, match="two tensors of one shape"):
        relativistic_d(torch.zeros(4, 1, 2, 2), torch.zeros(1, 1, 2, 2))


def test_penalty_of_a_linear_discriminator_is_its_weight() -> None:
    """With logit = w . x the gradient of each image is w: |w|^2, whatever batch and patches."""
    weight = torch.randn(1, 3, 3, dtype=torch.float64, requires_grad=True)

    for batch, patches in ((1, 1), (4, 1), (4, 7)):
        images = torch.rand(batch, 1, 3, 3, dtype=torch.float64, requires_grad=True)
        logits = (images * weight).sum((1, 2, 3))[:, None].expand(-1, patches)

        penalty = zero_centred_penalty(logits, images)

        assert float(penalty.detach()) == pytest.approx(float((weight.detach() ** 2).sum()))
        (gradient,) = torch.autograd.grad(penalty, weight)
        torch.testing.assert_close(gradient, 2 * weight.detach())


def test_penalty_gradient_is_right() -> None:
    """A smooth non-linear discriminator, checked by finite differences."""
    images = torch.rand(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)

    def penalty(weight: torch.Tensor) -> torch.Tensor:
        return zero_centred_penalty(torch.tanh((images * weight).sum((1, 2, 3))), images)

    assert torch.autograd.gradcheck(
        penalty, (torch.randn(1, 3, 3, dtype=torch.float64, requires_grad=True),)
    )


def test_penalty_without_an_image_gradient_is_refused() -> None:
    """A forgotten requires_grad would otherwise be PyTorch's message about graphs."""
    with pytest.raises(ValueError, match="requires_grad=True"):
        zero_centred_penalty(torch.zeros(2, requires_grad=True), torch.zeros(2, 1, 3, 3))
