"""Patch discriminators: receptive field, published size, norms, gradients."""

import pytest
import torch
from torch import nn

from models.blocks import BlurDownsample
from training.methods.parts.discriminators import PatchDiscriminator


@pytest.mark.parametrize(
    ("num_layers", "anti_aliased", "side_px"),
    [
        *((1, False, 16), (2, False, 34), (3, False, 70), (4, False, 142)),
        *((1, True, 18), (2, True, 40), (3, True, 84), (4, True, 172)),
    ],
)
def test_a_logit_depends_on_exactly_the_published_square(
    num_layers: int, anti_aliased: bool, side_px: int
) -> None:
    """70 px is pix2pix's; CUT's anti-aliased form of the same depth sees 84."""
    discriminator = PatchDiscriminator(
        width=4,
        num_layers=num_layers,
        anti_aliased=anti_aliased,
        norm="none",
        generator=torch.Generator().manual_seed(0),
    ).double()
    images = torch.rand(1, 1, 256, 256, dtype=torch.float64, requires_grad=True)

    logits = discriminator(images)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()

    assert images.grad is not None
    rows, columns = images.grad[0, 0].nonzero(as_tuple=True)
    assert side_px == int(rows.max() - rows.min()) + 1
    assert side_px == int(columns.max() - columns.min()) + 1


def test_published_size() -> None:
    """2.8 million parameters at width 64 and three halvings; 256 px give 30x30 logits strided."""
    discriminator = PatchDiscriminator(anti_aliased=False)

    count = sum(parameter.numel() for parameter in discriminator.parameters())

    assert 2.76e6 < count < 2.77e6
    assert (1, 1, 30, 30) == tuple(discriminator(torch.rand(1, 1, 256, 256)).shape)


@pytest.mark.parametrize("norm", ["instance", "instance_affine", "none", "spectral"])
@pytest.mark.parametrize("anti_aliased", [False, True])
def test_gradients_reach_every_weight(norm, anti_aliased: bool) -> None:
    """No layer is cut off, and the logits tell images apart at the start already."""
    discriminator = PatchDiscriminator(
        width=4,
        num_layers=2,
        norm=norm,
        anti_aliased=anti_aliased,
        generator=torch.Generator().manual_seed(0),
    )

    logits = discriminator(torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1)))
    logits.std().backward()

    assert float(logits.detach().std()) > 1e-5
    for name, parameter in discriminator.named_parameters():
        if name.endswith(("weight", "original")):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_only_instance_norm_ties_distant_places() -> None:
    """Without a norm a logit cannot see beyond its field; with one the whole image moves it."""
    images = torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    changed = images.clone()
    changed[..., 64:, 64:] = 1

    def moved(norm: str) -> float:
        discriminator = PatchDiscriminator(
            width=4,
            num_layers=1,
            norm=norm,  # pyright: ignore[reportArgumentType]
            generator=torch.Generator().manual_seed(0),
        )
        with torch.no_grad():
            difference = discriminator(images) - discriminator(changed)
        return float(difference[..., :8, :8].abs().max())

    assert 0.0 == moved("none")
    assert moved("instance") > 1e-4


def test_pairs_of_images_have_two_channels() -> None:
    """An image next to the one it was made of; everything behind the first layer is the same."""
    discriminator = PatchDiscriminator(in_channels=2, width=64, init="normal", anti_aliased=False)
    first = discriminator.layers[0]
    assert isinstance(first, nn.Conv2d)

    assert (64, 2, 4, 4) == tuple(first.weight.shape)
    assert (1, 1, 6, 6) == tuple(discriminator(torch.rand(1, 2, 64, 64)).shape)
    one = sum(p.numel() for p in PatchDiscriminator(anti_aliased=False).parameters())
    assert one + 64 * 16 == sum(p.numel() for p in discriminator.parameters())
    assert float(first.weight.detach().std()) == pytest.approx(0.02, rel=0.05)


def test_published_initialisation_can_be_chosen() -> None:
    """Xavier-normal of gain 0.02; "auto" leaves it where no norm restores the scale."""
    published = PatchDiscriminator(width=64, num_layers=2, norm="none", init="xavier")
    automatic = PatchDiscriminator(width=64, num_layers=2, norm="none")
    instance = PatchDiscriminator(width=64, num_layers=2)

    def deviation(discriminator: PatchDiscriminator) -> float:
        convolutions = [x for x in discriminator.layers if isinstance(x, nn.Conv2d)]
        return float(convolutions[1].weight.detach().std())

    xavier = 0.02 * (2 / (16 * (64 + 128))) ** 0.5
    assert deviation(published) == pytest.approx(xavier, rel=0.05)
    assert deviation(instance) == pytest.approx(xavier, rel=0.05)
    assert deviation(automatic) == pytest.approx((2 / 1.04 / (16 * 64)) ** 0.5, rel=0.05)


def test_spectral_norm_bounds_every_kernel() -> None:
    """The largest singular value of each kernel, as a matrix, comes to 1."""
    discriminator = PatchDiscriminator(width=8, num_layers=2, norm="spectral")

    for _ in range(30):  # one power iteration each
        discriminator(torch.rand(1, 1, 40, 40))

    for layer in discriminator.layers:
        if isinstance(layer, nn.Conv2d):
            largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
            assert float(largest) == pytest.approx(1.0, abs=0.1)


def test_blur_pool_keeps_flat_images_and_removes_checkerboards() -> None:
    """Its kernel sums to 1 and has a zero at the Nyquist frequency, at every second pixel."""
    board = (torch.arange(12)[:, None] + torch.arange(12)[None]) % 2
    images = torch.stack([torch.full((12, 12), 0.3), board.float()])[None]

    halved = BlurDownsample(channels=2)(images)

    assert (1, 2, 6, 6) == tuple(halved.shape)
    torch.testing.assert_close(halved[:, 0], torch.full((1, 6, 6), 0.3))
    torch.testing.assert_close(halved[:, 1], torch.full((1, 6, 6), 0.5))


def test_bfloat16_and_double_backward() -> None:
    """What training asks of it: autocast, and gradients of gradients for penalties."""
    discriminator = PatchDiscriminator(width=4, num_layers=2, norm="none")
    images = torch.rand(1, 1, 64, 64, requires_grad=True)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert bool(torch.isfinite(discriminator(images)).all())
    (gradient,) = torch.autograd.grad(discriminator(images).mean(), images, create_graph=True)
    (gradient**2).sum().backward()

    first = discriminator.layers[0]
    assert isinstance(first, nn.Conv2d)
    assert first.weight.grad is not None
    assert first.weight.grad.abs().max() > 0


def test_bad_sizes_are_refused() -> None:
    """Zero layers would judge single pixels by a 7-px field; zero width nothing."""
    with pytest.raises(ValueError, match="num_layers >= 1, got 64 and 0"):
        PatchDiscriminator(num_layers=0)
