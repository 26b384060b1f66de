"""The network's contract: sizes, cost, reach and fixed normalisation."""

import pytest
import torch
from torch import nn

from training.detector.network import DetectorNetwork


def _random_network() -> DetectorNetwork:
    """Build a network whose blocks and head are not at their quiet start."""
    torch.manual_seed(0)
    network = DetectorNetwork()
    nn.init.normal_(network.head.weight)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    return network.eval()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 64), (192, 160)])
def test_one_logit_for_each_cell_of_4x4(height: int, width: int) -> None:
    """Every multiple of 32 gives a quarter of the sides."""
    logits = DetectorNetwork()(torch.zeros(2, 1, height, width))

    assert (2, 1, height // 4, width // 4) == tuple(logits.shape)


def test_network_keeps_its_budget() -> None:
    """The default network has at most 400 k parameters and costs at most 6 GMAC a tile."""
    network = DetectorNetwork()
    macs = 0

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            macs += output.numel() * module.weight[0].numel()

    for module in network.modules():
        module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 1, 960, 960))

    assert sum(parameter.numel() for parameter in network.parameters()) <= 400_000
    assert 3e9 < macs <= 6e9


def test_each_logit_sees_at_least_125_pixels_to_each_side() -> None:
    """The gradient of one logit reaches over 250 pixels, so that neighbours can be compared."""
    network = _random_network().double()
    image = torch.rand(1, 1, 640, 640, dtype=torch.float64, requires_grad=True)

    network(image)[0, 0, 80, 80].backward()

    assert image.grad is not None
    seen = image.grad[0, 0].abs() > 0
    rows = torch.nonzero(seen.any(dim=1))[:, 0]
    columns = torch.nonzero(seen.any(dim=0))[:, 0]
    for reached in (rows, columns):
        assert int(reached.min()) <= 320 - 125
        assert int(reached.max()) >= 323 + 125


def test_normalisation_is_fixed() -> None:
    """A crop's logits do not depend on the image's far part: nothing is normalised per image."""
    network = _random_network()
    image = torch.rand(1, 1, 1024, 64)
    changed = image.clone()
    changed[:, :, 600:] = 0.9

    with torch.inference_mode():
        before, after = network(image), network(changed)

    assert torch.equal(before[:, :, :10], after[:, :, :10])
    assert not torch.equal(before[:, :, 150:], after[:, :, 150:])


def test_impossible_channels_are_refused() -> None:
    """A network needs two levels at least, each with a channel."""
    with pytest.raises(ValueError, match=r"channels must be .* got \(8, 0\)"):
        DetectorNetwork(channels=(8, 0))
