"""The literature's generator and its fixed layers, against torch's own operators."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from models.blocks import BicubicUpsample, BlurDownsample, BlurUpsample
from models.dropout import dropout_drawn_by
from models.resnet9 import ResidualBlock, ResNet9


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_equals_torch_including_borders(scale: int) -> None:
    """The polyphase convolution is torch's bicubic with a = -0.5, also at the border pixels."""
    image = torch.rand(2, 1, 7, 12, generator=torch.Generator().manual_seed(0))

    expected = functional.interpolate(image, scale_factor=scale, mode="bicubic", antialias=True)

    assert float((expected - BicubicUpsample(scale=scale)(image)).abs().max()) < 1e-5


def test_bicubic_keeps_linear_ramps_and_constants() -> None:
    """Half-pixel centres: a ramp stays the same ramp inside, a constant everywhere."""
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    enlarged = BicubicUpsample(scale=4)(ramp)[0, 0, 24]
    expected = (torch.arange(48.0) + 0.5) / 4 - 0.5

    assert float((expected - enlarged)[8:-8].abs().max()) < 1e-5
    constant = BicubicUpsample(scale=4)(torch.full((1, 1, 5, 5), 0.3))
    assert float((constant - 0.3).abs().max()) < 1e-6


def test_blur_downsample_is_binomial_with_reflection() -> None:
    """[1 2 1] / 4 in both directions, every second pixel, mirrored at the border."""
    row = torch.tensor([[4.0, 8.0, 0.0, 4.0, 12.0]])
    image = row.expand(5, 5)[None, None]

    # Mirrored: 8 | 4 8 0 4 12 | 4, taken at 0, 2, 4.
    expected = torch.tensor([[6.0, 3.0, 8.0]]).expand(3, 3)

    assert torch.equal(expected, BlurDownsample(channels=1)(image)[0, 0])


def test_blur_upsample_is_the_1331_kernel_with_replication() -> None:
    """Zeros between samples, then [1 3 3 1] / 4 in both directions: the literature's form."""
    features = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    kernel = torch.outer(row, row).expand(3, 1, 4, 4)
    padded = functional.pad(features, (1, 1, 1, 1), mode="replicate")
    spread = functional.conv_transpose2d(padded, kernel, stride=2, groups=3)

    expected = spread[:, :, 3:-3, 3:-3]

    assert float((expected - BlurUpsample()(features)).abs().max()) < 1e-6


def test_translation_is_the_network_without_its_enlargement() -> None:
    """At scale 4 it follows the enlargement; at scale 1 it is the whole network."""
    network = ResNet9(width=4, num_blocks=1)
    lr = torch.rand(1, 1, 12, 13, generator=torch.Generator().manual_seed(2))
    enlarged = BicubicUpsample(scale=4)(lr)
    alone = ResNet9(scale=1, width=4, num_blocks=1)
    alone.layers.load_state_dict(network.layers.state_dict())

    with torch.no_grad():
        assert torch.equal(network(lr), network.translate(enlarged))
        assert float((alone(enlarged) - network(lr)).abs().max()) < 1e-6


@pytest.mark.parametrize("anti_aliased", [True, False])
def test_full_size_has_the_published_number_of_weights(anti_aliased: bool) -> None:
    """Width 64 and nine blocks give the 11.4 million parameters of the literature's network."""
    network = ResNet9(anti_aliased=anti_aliased)

    assert 11.4 == round(sum(p.numel() for p in network.parameters()) / 1e6, 1)


def test_output_stays_within_the_image_range() -> None:
    """The tanh range is mapped to [0, 1] inside the network, however large the weights."""
    torch.manual_seed(0)
    network = ResNet9(width=4, num_blocks=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(100.0)
        sr = network(torch.rand(1, 1, 8, 8))

    assert 0.0 <= float(sr.min()) < 0.01
    assert 0.99 < float(sr.max()) <= 1.0


def test_published_weights_are_xavier_of_a_fiftieth() -> None:
    """Deviations sqrt(2 / (fan in + fan out)) / 50, no bias; a checkpoint keeps the choice."""
    network = ResNet9(width=16, num_blocks=1, init="xavier")

    first, last = (network.layers[index] for index in (1, -2))
    expected = [0.02 * (2 / (49 * (1 + 16))) ** 0.5] * 2
    found = [float(layer.get_parameter("weight").detach().std()) for layer in (first, last)]
    assert pytest.approx(expected, rel=0.1) == found
    assert 0 == float(last.get_parameter("bias").detach().abs().max())
    assert "xavier" == network.hyper_parameters["init"]
    assert "init" not in ResNet9(width=4, num_blocks=1).hyper_parameters


def test_unknown_initialisation_is_refused() -> None:
    """No silent default."""
    with pytest.raises(ValueError, match="init must be 'normal' or 'xavier', got 'he'"):
        ResNet9(init="he")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("options", [{"norm": "instance_affine"}, {"dropout": 0.5}])
def test_options_of_pix2pix_are_described_only_where_they_are_used(options: dict[str, Any]) -> None:
    """Checkpoints and weights from before these options stay as they were."""
    plain = ResNet9(width=4, num_blocks=1)
    network = ResNet9(width=4, num_blocks=1, **options)

    assert {**plain.hyper_parameters, **options} == network.hyper_parameters
    assert set(plain.state_dict()) <= set(network.state_dict())
    network.load_state_dict(plain.state_dict(), strict=False)
    described = ["scale", "width", "num_blocks", "anti_aliased"]
    assert described == list(plain.hyper_parameters)


def test_affine_instance_norm_is_batch_norm_of_one_image() -> None:
    """In training mode, at a batch of 1: the function that pix2pix trains and is tested with."""
    affine = ResNet9(scale=1, width=4, num_blocks=1, anti_aliased=False, norm="instance_affine")
    batch = ResNet9(scale=1, width=4, num_blocks=1, anti_aliased=False, norm="instance_affine")
    for module in list(batch.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.InstanceNorm2d):
                setattr(module, name, nn.BatchNorm2d(child.num_features))
    batch.load_state_dict(affine.state_dict(), strict=False)
    image = torch.rand(1, 1, 16, 20, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        torch.testing.assert_close(affine(image), batch(image))


def test_dropout_stands_inside_every_residual_block() -> None:
    """Behind the ReLU, which leaves half of the features: a quarter passes."""
    network = ResNet9(width=4, num_blocks=2, dropout=0.5)
    block, _ = (layer for layer in network.layers if isinstance(layer, ResidualBlock))
    features = torch.rand(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    kept: list[torch.Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        kept.append(output)

    block.dropout.register_forward_hook(keep)

    with torch.no_grad(), dropout_drawn_by(block, torch.Generator().manual_seed(2)):
        block(features)

    (dropped,) = kept
    assert 0.7 < float((dropped == 0).float().mean()) < 0.8


def test_unknown_norm_is_refused() -> None:
    """Batch norm's statistics of one image are those of instance norm: choose that one."""
    with pytest.raises(ValueError, match="norm must be 'instance' or 'instance_affine', got 'bat"):
        ResNet9(norm="batch")
