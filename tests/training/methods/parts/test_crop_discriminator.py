"""Discriminator of whole crops."""

import pytest
import torch
from torch import nn

from training.methods.parts.crop_discriminator import CropDiscriminator


def test_layers_at_the_published_size() -> None:
    """160 px are halved five times to 5x5 at 512 channels."""
    network = CropDiscriminator(side_px=160)

    convolutions = [layer for layer in network.layers if isinstance(layer, nn.Conv2d)]
    dense = [layer for layer in network.layers if isinstance(layer, nn.Linear)]

    assert [32, 32, 64, 64, 128, 128, 256, 256, 512, 512] == [c.out_channels for c in convolutions]
    assert [1, 2] * 5 == [c.stride[0] for c in convolutions]
    assert [(512 * 25, 1024), (1024, 1)] == [(d.in_features, d.out_features) for d in dense]
    assert 9 == sum(isinstance(layer, nn.BatchNorm2d) for layer in network.layers)


@pytest.mark.parametrize(("side_px", "num_layers"), [(64, 5), (21, 3), (16, 1)])
def test_one_logit_a_crop(side_px: int, num_layers: int) -> None:
    """Sides need not be multiples of the discriminator's stride."""
    network = CropDiscriminator(side_px=side_px, width=2, num_layers=num_layers, hidden=4)
    assert (3, 1) == tuple(network(torch.rand(3, 1, side_px, side_px)).shape)


def test_another_size_is_refused() -> None:
    """The dense layers would fail with a message about matrices."""
    network = CropDiscriminator(side_px=16, width=2, num_layers=1, hidden=4)
    with pytest.raises(ValueError, match=r"judges crops \(N, 1, 16, 16\), got \(2, 1, 16, 20\)"):
        network(torch.rand(2, 1, 16, 20))
    with pytest.raises(ValueError, match="must be at least 1, got 16, 0, 1, 4"):
        CropDiscriminator(side_px=16, width=0, num_layers=1, hidden=4)
