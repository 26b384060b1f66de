"""F-MLP: features of a few places of a map, projected onto the unit sphere.

Source: Park et al. 2020 (CUT), section 3 (its code calls it PatchSampleF).
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

PUBLISHED_GAIN = 0.02
"""Gain of Xavier's initialisation in the published code; biases start at 0."""

LEAST_LENGTH = 1e-7
"""Constant that is added to a vector's length before the division, as in the published code."""


class FeatureSampler(nn.Module):
    """One head for each tap: linear, ReLU, linear, division by the length.

    The published code makes its heads at the first batch. Here the channels are given, so that the
    optimiser and a resumed run have them from the start.

    Args:
        channels: Channels of each tap.
        width: Channels of the hidden layer and of the result, D.
        generator: Source of the initial weights; PyTorch's global one if None.
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        *,
        width: int = 256,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not channels or width < 1:
            raise ValueError(
                f"channels are {dict(channels)} and width is {width}, expected at least one tap "
                "and 1"
            )
        self.heads = nn.ModuleDict(
            {tap: _head(count, width, generator) for tap, count in channels.items()}
        )

    def forward(self, tap: str, values: torch.Tensor) -> torch.Tensor:
        """Project the features of places.

        Args:
            tap: Name of the tap.
            values: (N, P, C) from `values_at` or from an attention over the map.

        Returns:
            (N, P, D) float32 also under autocast, of length 1 (of length 0 where the head gives 0).
        """
        with torch.autocast(values.device.type, enabled=False):
            exact = torch.promote_types(values.dtype, torch.float32)
            projected = cast("nn.Module", self.heads[tap])(values.to(exact))
            # vector_norm: the gradient of a sum's root is infinite at 0.
            length = torch.linalg.vector_norm(projected, dim=-1, keepdim=True)
            return projected / (length + LEAST_LENGTH)


def values_at(features: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the features of places.

    Args:
        features: (N, C, h, w).
        ids: (P,) shared by all images, or (N, P): row-major ids, `row * w + column`.

    Returns:
        (N, P, C).
    """
    places = features.flatten(2)
    ids = ids.to(features.device)
    ids = ids.expand(len(features), -1) if ids.ndim == 1 else ids
    return places.gather(2, ids[:, None].expand(-1, features.shape[1], -1)).transpose(1, 2)


def _head(channels: int, width: int, generator: torch.Generator | None) -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, width))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight, gain=PUBLISHED_GAIN, generator=generator)
            nn.init.zeros_(layer.bias)
    return layers
