"""Cost: multiply-adds against torch's own counter."""

import pytest
import torch
from torch import nn

from models import GENERATORS
from models.cost import count_gmac


def test_multiply_adds_of_known_layers() -> None:
    """Outputs times weights of a kernel; a transposed convolution by its inputs."""
    plain = nn.Conv2d(1, 4, 3, padding=1)
    grouped = nn.Sequential(plain, nn.Conv2d(4, 8, 3, padding=1, groups=2))
    transposed = nn.Sequential(plain, nn.ConvTranspose2d(4, 2, 4, stride=2))

    assert 100 * 4 * 9 / 1e9 == pytest.approx(count_gmac(plain, tile=(10, 10)))
    assert 100 * (4 * 9 + 8 * 18) / 1e9 == pytest.approx(count_gmac(grouped, tile=(10, 10)))
    assert 100 * (4 * 9 + 4 * 32) / 1e9 == pytest.approx(count_gmac(transposed, tile=(10, 10)))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_multiply_adds_are_half_of_torchs_operations(name: str) -> None:
    """For every generator, merged; torch loads its compiler to count, hence slow."""
    from torch.utils.flop_counter import FlopCounterMode

    network = GENERATORS[name].build().merged()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, 1, 32, 32))

    assert counter.get_total_flops() / 2e9 == pytest.approx(count_gmac(network, tile=(32, 32)))
