"""Discriminators of LIR: shapes, sizes, initial weights, and being frozen."""

import pytest
import torch

from training.losses.lir import content_g
from training.methods.parts.frozen import frozen
from training.methods.parts.lir_discriminators import (
    ContentDiscriminator,
    ScalesDiscriminator,
)


def test_sizes_are_the_published_ones() -> None:
    """Three PatchGANs of 64 to 512 channels on one grey channel; four layers of 256 on codes."""
    images, codes = ScalesDiscriminator(), ContentDiscriminator(channels=256)

    assert 3 * (17 * 64 + 1025 * 128 + 2049 * 256 + 4097 * 512 + 513) == _count(images)
    assert 4 * (9 * 256 + 1) * 256 + 257 == _count(codes)
    assert 64 == images.min_side_px


def test_logits_of_each_scale_are_those_of_its_patches() -> None:
    """A crop of 64 px gives 4x4, 2x2 and one logit."""
    images = ScalesDiscriminator(width=2)(torch.rand(2, 1, 64, 64))

    assert [(2, 1, 4, 4), (2, 1, 2, 2), (2, 1, 1, 1)] == [tuple(x.shape) for x in images]
    assert (3,) == tuple(ContentDiscriminator(channels=4)(torch.rand(3, 4, 16, 16)).shape)


def test_images_and_codes_that_are_too_small_are_refused() -> None:
    """The messages name size and least size."""
    with pytest.raises(ValueError, match="side of 63 px, expected at least 64"):
        ScalesDiscriminator(width=2)(torch.rand(1, 1, 64, 63))
    with pytest.raises(ValueError, match="8x9 places, expected at least 9x9"):
        ContentDiscriminator(channels=2)(torch.rand(1, 2, 8, 9))


def test_weights_start_small_and_biases_at_zero() -> None:
    """N(0, 0.02), unlike the encoders' Kaiming weights."""
    torch.manual_seed(0)
    network = ContentDiscriminator(channels=32)

    weights = torch.cat([p.detach().flatten() for p in network.parameters() if p.ndim > 1])
    biases = torch.cat([p.detach().flatten() for p in network.parameters() if p.ndim == 1])

    assert pytest.approx(0.02, rel=0.03) == float(weights.std())
    assert 0.0 == float(biases.abs().max())


def test_a_frozen_discriminator_passes_gradients_and_gets_none() -> None:
    """The published code steps it here as well, on the encoders' objective."""
    torch.manual_seed(0)
    network = ContentDiscriminator(channels=4)
    codes = torch.rand(2, 4, 16, 16, requires_grad=True)

    with frozen(network):
        loss = content_g(network(codes), network(codes))
    loss.backward()

    assert codes.grad is not None
    assert float(codes.grad.abs().max()) > 0
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def _count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
