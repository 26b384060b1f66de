"""The definition that `RepConv3` merges into one convolution."""

import torch
from torch.nn import functional

from models.blocks import RepConv3


def by_branches(block: RepConv3, features: torch.Tensor) -> torch.Tensor:
    """Apply the four branches of a block one by one, (N, C, H, W) to the same shape."""
    padded = functional.pad(features, (block.dilation,) * 4)
    wide = block.reduce(block.expand(padded))
    return block.conv3(padded) + wide + block.point(features) + features
