"""The base of every network that is trained here and that a checkpoint can hold."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn


class Network(nn.Module):
    """A network that enlarges a one-channel image by a fixed factor.

    Attributes:
        scale: Enlargement factor s; 1 where the input is enlarged already.
        hyper_parameters: The keyword arguments that build the same network again.
    """

    scale: int
    hyper_parameters: dict[str, Any]


class ReferenceNetwork(Network, ABC):
    """A network that needs a second image, an HR image of another place, to enlarge an LR image.

    It is for comparison only: an LR tile comes without a reference, so that such a network can be
    neither exported nor served.
    """

    @abstractmethod
    def forward(self, lr: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Enlarge a batch.

        Args:
            lr: (N, 1, H, W) float32 in [0, 1].
            reference: (N, 1, R, R') float32 in [0, 1], one HR image for each, or (1, 1, R, R') for
                all.

        Returns:
            (N, 1, s*H, s*W) float32, about [0, 1], not clamped.
        """
