"""The detector's network, which computes one logit for each 4x4 block of HR pixels."""

import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

CELL_PX = 4
"""Side of the block of HR pixels that one logit is about."""

SIZE_MULTIPLE_PX = 32
"""Height and width must be multiples: the stem divides by 4, the three lower levels by 8 more."""

GREY_LEVEL = 60 / 255
GREY_SPREAD = 40 / 255
"""Input is shifted and scaled by these two numbers, about the mean and the spread of simulated
review images. They are constants: an image of the wrong tone must look wrong to the detector."""

DEFAULT_CHANNELS = (32, 48, 64, 64)

RARE_LOGIT = -4.0
"""Start of the head's bias, about the logit of the share of pixels that belong to a defect."""


class DetectorNetwork(nn.Module):
    """A U-Net of four levels on space-to-depth input; 3.9 GMAC for a tile of 960x960.

    The stem folds blocks of 4x4 pixels into 16 channels, which loses nothing, so that its 3x3
    convolution is a bank of 12x12-pixel filters. The levels have cells of 4, 8, 16 and 32 pixels
    and are joined by sums. Each logit sees 148 pixels to each side at least, enough for the
    neighbours of a missing hole. Batch normalisation is for training; a detector in use has fixed
    statistics, as those of the image at hand would hide its errors of tone.

    Source: U-Net after Ronneberger et al. 2015; residual blocks after He et al. 2016; the stem
    after Shi et al. 2016 (pixel unshuffle); Ioffe and Szegedy 2015 (batch normalisation).
    """

    def __init__(self, *, channels: Sequence[int] = DEFAULT_CHANNELS) -> None:
        super().__init__()
        if len(channels) < 2 or min(channels) < 1:
            raise ValueError(
                f"channels must be at least two positive numbers, got {tuple(channels)}"
            )
        self.hyper_parameters = {"channels": list(channels)}
        self.stem = _Convolution(CELL_PX**2, channels[0])
        self.first = _Convolution(channels[0], channels[0])
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList([_Convolution(fine, coarse, stride=2) for fine, coarse in pairs])
        self.blocks = nn.ModuleList([_ResidualBlock(channels=coarse) for _, coarse in pairs])
        self.up = nn.ModuleList([nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs])
        self.merge = nn.ModuleList([_Convolution(fine, fine) for fine, _ in pairs])
        self.head = nn.Conv2d(channels[0], 1, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        if self.head.bias is not None:
            nn.init.constant_(self.head.bias, RARE_LOGIT)
        # The layout that CPU convolutions work in; a tenth faster here. Outputs follow the weights.
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (N, 1, H, W) float32 in [0, 1] to logits (N, 1, H/4, W/4); H, W multiples of 32."""
        features = functional.pixel_unshuffle((image - GREY_LEVEL) / GREY_SPREAD, CELL_PX)
        features = functional.relu(self.first(functional.relu(self.stem(features))))
        skipped = []
        for down, block in zip(self.down, self.blocks, strict=True):
            skipped.append(features)
            features = block(functional.relu(down(features)))
        for level in reversed(range(len(skipped))):
            # The 1x1 convolution goes first: it commutes with nearest-neighbour enlargement.
            coarse = functional.interpolate(self.up[level](features), scale_factor=2.0)
            features = functional.relu(self.merge[level](coarse + skipped[level]))
        return self.head(features)


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions parallel to the identity, which the block is at its start."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.first = _Convolution(channels, channels)
        self.second = _Convolution(channels, channels)
        nn.init.zeros_(self.second.norm.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.first(features))
        return functional.relu(features + self.second(inner))


class _Convolution(nn.Module):
    """A 3x3 convolution and its batch normalisation."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)
        nn.init.kaiming_normal_(self.kernel.weight, nonlinearity="relu")

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.norm(self.kernel(features))
