"""The base of all generators: the promises of every super-resolution network here.

Training, export and evaluation know generators only through this class and the registry.
"""

from abc import ABC, abstractmethod

import torch
from torch import nn

from models.network import Network


class Generator(Network, ABC):
    """A network that enlarges a one-channel image by a fixed factor in one pass.

    Attributes:
        receptive_radius_px: Distance, in LR pixels, that an output pixel looks beyond the LR pixel
            that it lies in, at most; None where it is unbounded, as with instance normalisation.
        grid_px: LR pixels by which an image may be shifted and still be enlarged alike: 1 for
            convolutions on one grid, the coarsest level's pixel for a U-Net.
    """

    receptive_radius_px: int | None
    grid_px: int = 1

    @abstractmethod
    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Enlarge a batch.

        Args:
            lr: (N, 1, H, W) float32 in [0, 1].

        Returns:
            (N, 1, s*H, s*W) float32, about [0, 1], not clamped.
        """

    @abstractmethod
    def merged(self) -> nn.Module:
        """Return an independent copy in eval mode made of plain layers, for export.

        It computes the same function to float32 rounding; networks without training-time branches
        return a copy of themselves.
        """
