"""The average of a network: weights move slowly, running statistics are taken as they are."""

import copy

import torch
from torch import nn

from training.run.averaging import update_average


def test_parameters_are_averaged_and_buffers_copied() -> None:
    """A batch norm's own averages would otherwise stay at their initial values."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = copy.deepcopy(network)
    network(torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    before = [p.detach().clone() for p in average.parameters()]

    update_average(average, network, step=10_000, decay=0.75)

    for old, moved in zip(before, average.parameters(), strict=True):
        torch.testing.assert_close(moved, old + 0.25)
    for current, copied in zip(network.buffers(), average.buffers(), strict=True):
        assert torch.equal(current, copied)
    assert 1 == int(average.get_buffer("1.num_batches_tracked"))
