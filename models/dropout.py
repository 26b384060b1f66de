"""Dropout whose masks a training step draws by a generator of its own.

PyTorch's dropout draws from its global generator, which no run saves: a resumed run would continue
with other masks. Here the caller gives the generator, seeded by the step.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class SeededDropout(nn.Module):
    """Set each value to zero with a probability during training; divide the others by its rest.

    In eval mode it does nothing. Masks are drawn on the CPU, so that they are the same on every
    device.

    Args:
        probability: Probability of a zero, 0 to below 1; 0 never draws.

    Source: Srivastava et al. 2014; as the noise of a generator Isola et al. 2017, section 3.2.1.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"dropout is {probability}, expected 0 to below 1")
        self.probability = probability
        self.generator: torch.Generator | None = None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape.

        Raises:
            RuntimeError: The network is in training mode, but not within `dropout_drawn_by`.
        """
        if not (self.training and self.probability):
            return features
        if self.generator is None:
            raise RuntimeError(
                "dropout in training mode has no generator to draw from; expected a call within "
                "dropout_drawn_by, such as a training method that supports dropout makes"
            )
        kept = torch.empty(features.shape).bernoulli_(
            1 - self.probability, generator=self.generator
        )
        return features * kept.to(features) / (1 - self.probability)


@contextmanager
def dropout_drawn_by(network: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Let the dropout layers of a network draw from a generator within a context.

    Args:
        network: Network that is called within the context.
        generator: Source of the masks, on the CPU.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, SeededDropout)]
    for layer in layers:
        layer.generator = generator
    try:
        yield
    finally:
        for layer in layers:
            layer.generator = None
