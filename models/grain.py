"""Grain: noise made from the tile's own grey levels, so that one tile always gives one image.

HR images have grain, denoised images have none, and a detector trained on HR images may misjudge
images without grain. The true grain is unknown, so the network imitates it. Random numbers in the
graph would give different answers to the same tile, and a fixed pattern would show in every tile.
The noise is therefore a hash of each pixel's 3x3 neighbourhood. It is equal in every runtime, and
it moves with the content if a tile is cut elsewhere.
"""

import math

import torch
from torch import nn
from torch.nn import functional

MODULUS = 4096
"""Modulus of the hash, which is computed in 32-bit integers: an engine that runs its
floating-point numbers in half the bits (FP16, BF16) would otherwise make another noise."""

NEIGHBOUR_WEIGHTS = (
    (1021, -1579, 787),
    (-1933, 1409, -619),
    (1747, -1223, 390),
)
"""They add up to zero: where the grey is constant (saturated, cut off) there is no grain, rather
than one value that would draw a lattice."""

MULTIPLIERS = (
    *(901, 1665, 511, 2283, 1217, 459, 733, 2815),
    *(2743, 3649, 331, 361, 3453, 659, 3775, 3395),
)
"""One for each channel, odd. Found by a random search over all of them: over a full period no two
channels correlate by more than 0.006 (tests/models/test_grain.py)."""

GREY_LEVELS = 255.0


class HashNoise(nn.Module):
    """White noise of mean 0 and variance 1, (N, channels, H, W), from an 8-bit image.

    Each channel is uniform: h * m_c mod 4096 for the hash h of the neighbourhood and an odd
    multiplier m_c of its own. Nothing is differentiable here.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        if not 1 <= channels <= len(MULTIPLIERS):
            raise ValueError(f"expected 1 to {len(MULTIPLIERS)} channels of grain, got {channels}")
        multipliers = torch.tensor(MULTIPLIERS[:channels], dtype=torch.int32).view(
            1, channels, 1, 1
        )
        self.register_buffer("multipliers", multipliers, persistent=False)
        self.multipliers: torch.Tensor

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Hash (N, 1, H, W) float32 in [0, 1], meant as the 256 levels k / 255."""
        # Without the channel: OpenVINO works through an only channel one value at a time.
        grey = torch.round(image.float() * GREY_LEVELS)[:, 0]
        height, width = image.shape[2], image.shape[3]
        # Padded before the cast: torch pads no integers by replication.
        padded = functional.pad(grey, (1, 1, 1, 1), mode="replicate").to(torch.int32)
        mixed = torch.zeros_like(padded[:, 1:-1, 1:-1])
        for row, weights in enumerate(NEIGHBOUR_WEIGHTS):
            for column, weight in enumerate(weights):
                mixed = mixed + weight * padded[:, row : row + height, column : column + width]
        # Not the bitwise AND that it amounts to: TensorRT has none for integers.
        mixed = torch.remainder(mixed, MODULUS)[:, None]
        # Half the modulus more: a hash of zero becomes a noise of zero.
        spread = torch.remainder(mixed * self.multipliers + MODULUS // 2, MODULUS)
        return ((spread.float() / MODULUS - 0.5) * math.sqrt(12.0)).to(image.dtype)
