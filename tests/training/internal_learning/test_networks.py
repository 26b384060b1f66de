"""Networks of several tiles in one group, against plain ones."""

import numpy as np
import torch
from torch import nn

from training.internal_learning.networks import TileAdam, TileNetworks


def networks(tiles: int, *, layers: int = 4, width: int = 6) -> TileNetworks:
    """Draw networks in float64."""
    return TileNetworks.drawn(
        [np.random.default_rng(seed) for seed in range(tiles)],
        layers=layers,
        width=width,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )


def pictures(tiles: int, height: int = 20, width: int = 24) -> torch.Tensor:
    """Return noise, (T, H, W) float64."""
    return torch.rand((tiles, height, width), generator=torch.Generator().manual_seed(2)).double()


def plain(group: TileNetworks, tile: int) -> nn.Sequential:
    """Return the same network made of torch's layers."""
    layers: list[nn.Module] = []
    for number, weight in enumerate(group.weights):
        _, outputs, inputs = weight.shape[:3]
        layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False).double()
        layer.weight.data.copy_(weight[tile].detach())
        layers += [nn.ReLU(), layer] if number else [layer]
    return nn.Sequential(*layers)


def test_a_group_is_its_networks() -> None:
    """Each tile's result and gradient are those of its own plain network, which adds the input."""
    group, images = networks(3), pictures(3)
    results = group(images)
    gradients = torch.autograd.grad(results.abs().mean(dim=(1, 2)).sum(), group.weights)

    for tile in range(3):
        network, image = plain(group, tile), images[tile][None, None]
        alone = image + network(image)
        assert torch.allclose(alone[0, 0], results[tile], atol=1e-12)
        alone.abs().mean().backward()
        convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
        for layer, gradient in zip(convolutions, gradients, strict=True):
            assert layer.weight.grad is not None
            assert torch.allclose(layer.weight.grad, gradient[tile], atol=1e-12)


def test_the_published_network_has_its_size() -> None:
    """Eight convolutions without bias, 64 channels: 222,336 weights of variance 0.1 / fan-in."""
    group = networks(2, layers=8, width=64)

    assert 6 * 64 * 64 * 9 + 2 * 64 * 9 == sum(weight[0].numel() for weight in group.weights)
    for weight in group.weights:
        expected = (0.1 / (9 * weight.shape[2])) ** 0.5
        assert abs(float(weight.detach().std()) / expected - 1) < 0.1


def test_blocks_are_the_whole_picture() -> None:
    """Cutting changes nothing, at the border and at the seams."""
    group, images = networks(2), pictures(2, 37, 50)

    with torch.no_grad():
        whole = group(images)

    for side_px in (7, 16, 64):
        assert torch.allclose(whole, group.in_blocks(images, side_px=side_px), atol=1e-12)


def test_adam_is_that_of_torch_with_a_rate_for_each_tile() -> None:
    """Each tile moves as under `torch.optim.Adam` with its own rate; a part goes on alone."""
    group = networks(3)
    copies = [[weight[tile].detach().clone() for weight in group.weights] for tile in range(3)]
    rates = [1e-3, 1e-4, 1e-2]
    others = [
        torch.optim.Adam(weights, lr=rate) for weights, rate in zip(copies, rates, strict=True)
    ]
    adam = TileAdam(group.weights)
    rng = torch.Generator().manual_seed(0)

    def move(tiles: list[int]) -> None:
        gradients = [torch.randn(w.shape, generator=rng, dtype=w.dtype) for w in group.weights]
        adam.step(gradients, torch.tensor([rates[tile] for tile in tiles], dtype=torch.float64))
        for place, tile in enumerate(tiles):
            for weight, gradient in zip(copies[tile], gradients, strict=True):
                weight.grad = gradient[place].clone()
            others[tile].step()
            for weight, ours in zip(copies[tile], group.weights, strict=True):
                assert torch.allclose(weight, ours[place].detach(), atol=1e-12)

    for _ in range(5):
        move([0, 1, 2])
    group = group.of([2, 0])
    adam = adam.of(group.weights, [2, 0])
    for _ in range(5):
        move([2, 0])


def test_groups_can_be_parted_and_joined() -> None:
    """Parts are copies, and together they are the group again."""
    group = networks(3)
    parts = [group.of([tile]) for tile in range(3)]
    with torch.no_grad():
        group.weights[0].zero_()

    joined = TileNetworks.joined(parts)

    assert 3 == len(joined.weights[0])
    assert float(joined.weights[0].detach().abs().min()) > 0
