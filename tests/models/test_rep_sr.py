"""The fast generator: its merged form equals its definition, borders included."""

import pytest
import torch

from models.blocks import RepConv3
from models.rep_sr import RepSR
from tests.models.branches import by_branches


def _randomise(module: torch.nn.Module, *, seed: int, std: float) -> None:
    """Move every parameter, biases too, away from its initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize(("expansion", "dilation"), [(1, 1), (2, 1), (2, 3)])
def test_block_equals_its_branches_at_every_pixel(expansion: int, dilation: int) -> None:
    """One merged convolution gives what the four branches give, also in the border pixels."""
    torch.manual_seed(0)
    block = RepConv3(channels=12, expansion=expansion, dilation=dilation)
    _randomise(block, seed=1, std=0.1)
    features = torch.randn(2, 12, 9, 11)

    with torch.no_grad():
        expected = by_branches(block, features)
        actual = block(features)
        merged = block.merged()(features)

    assert float((expected - actual).abs().max()) < 1e-5
    assert float((expected - merged).abs().max()) < 1e-5


def test_branches_pad_before_the_first_1x1() -> None:
    """The expanding branch's bias acts at the border too; padding between would lose it there."""
    block = RepConv3(channels=2, expansion=2)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.expand.bias.fill_(1.0)  # pyright: ignore[reportOptionalMemberAccess]
        block.reduce.weight.fill_(1.0)
        response = by_branches(block, torch.zeros(1, 2, 5, 5))

    # 4 expanded channels times 9 taps, everywhere.
    assert torch.equal(torch.full((1, 2, 5, 5), 36.0), response)


def test_gradients_through_the_merged_kernel_equal_those_of_the_branches() -> None:
    """Training through the one merged convolution is training of the branches."""
    torch.manual_seed(0)
    block = RepConv3(channels=6, expansion=2).double()
    _randomise(block, seed=2, std=0.1)
    features = torch.randn(2, 6, 7, 8, dtype=torch.float64)
    weights = torch.randn(2, 6, 7, 8, dtype=torch.float64)
    parameters = list(block.parameters())

    expected = torch.autograd.grad((by_branches(block, features) * weights).sum(), parameters)
    actual = torch.autograd.grad((block(features) * weights).sum(), parameters)

    for left, right in zip(expected, actual, strict=True):
        assert float((left - right).abs().max()) < 1e-10


@pytest.mark.parametrize("scale", [2, 4])
def test_whole_default_network_merges_within_1e_5(
    scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped size, with weights like trained ones, merged against branch by branch."""
    torch.manual_seed(0)
    network = RepSR(scale=scale)
    _randomise(network, seed=3, std=0.02)
    lr = torch.rand(2, 1, 21, 26)

    with torch.no_grad():
        in_training = network(lr)
        merged = network.merged()(lr)
        monkeypatch.setattr(RepConv3, "forward", by_branches)
        expected = network(lr)

    # The comparison means something only if the network is far from its plain skip.
    skip = lr.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    assert float((expected - skip).abs().mean()) > 0.05
    assert float((expected - in_training).abs().max()) < 1e-5
    assert float((expected - merged).abs().max()) < 1e-5


def test_merged_has_only_plain_layers_and_the_planned_size() -> None:
    """48 channels and 8 blocks merge into 10 convolutions with about 0.17 million weights."""
    merged = RepSR().merged()
    kinds = [type(layer).__name__ for layer in merged.modules() if not list(layer.children())]

    assert 10 == kinds.count("Conv2d")
    assert {"Conv2d", "PReLU"} == set(kinds)
    assert 174_064 == sum(parameter.numel() for parameter in merged.parameters())


def test_a_zero_tail_leaves_nearest_neighbour_enlargement() -> None:
    """The global skip hands every LR value to its s x s block."""
    network = RepSR(channels=4, num_blocks=1, scale=4)
    with torch.no_grad():
        network.tail.weight.zero_()
    lr = torch.rand(1, 1, 5, 6)

    expected = lr.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)

    assert torch.equal(expected, network(lr))


def test_impossible_sizes_are_refused() -> None:
    """A network of no channels is an error that names the values."""
    with pytest.raises(ValueError, match="at least 1, got 0, 8, 4, 2"):
        RepSR(channels=0)


@pytest.mark.parametrize("dilations", [[1], [1, 0], [1, 2, 3]])
def test_dilations_that_fit_no_blocks_are_refused(dilations: list[int]) -> None:
    """One for each block, none below 1."""
    with pytest.raises(ValueError, match=r"dilations must be 2 numbers of at least 1"):
        RepSR(num_blocks=2, dilations=dilations)


def test_a_dilated_network_sees_as_far_as_it_says() -> None:
    """One LR pixel moves the output within the receptive radius, to its very edge, not beyond."""
    torch.manual_seed(0)
    network = RepSR(channels=8, num_blocks=3, dilations=[1, 3, 2])
    _randomise(network, seed=5, std=0.1)
    radius = network.receptive_radius_px
    lr = torch.rand(1, 1, 41, 41)
    changed = lr.clone()
    changed[0, 0, 20, 20] += 0.5

    with torch.no_grad():
        difference = (network(changed) - network(lr)).abs()[0, 0]

    moved = difference.nonzero() // network.scale
    assert radius == 8
    assert (20 - radius, 20 + radius) == (int(moved.min()), int(moved.max()))
