"""Networks that a loss computes through without training them, such as a discriminator."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Compute through networks without gradients for their own weights.

    What the block computed keeps gradients for the networks' inputs, also after the block.
    """
    for network in networks:
        network.requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(requires_grad=True)
