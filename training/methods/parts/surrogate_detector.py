"""The surrogate detector: a small network that learns, during a run, to find planted defects in HR.

The product's pictures are read by a defect detector that knows HR images only. Which one is not
known when the generator is trained, and the evaluation's own must not be used; but the HR crops and
the masks of what was planted in them are there, and make another. It gives the generator the
verdict of a detector on its pictures (`training.losses.detection`).

Another architecture than the evaluation's detector on purpose (dilated convolutions at one scale,
where that one is a U-Net), other weights and other images: the generator is not trained to please
the judge.
"""

import torch
from torch import nn

CELL_PX = 4
"""Side of the block of HR pixels that one logit is about."""

DILATIONS = (1, 2, 4, 8, 1)
START_LOGIT = -3.0
"""Start of the head's bias: about the logit of the share of cells that belong to a defect."""

GREY_LEVEL = 0.2
GREY_SCALE = 5.0
"""Input is shifted and scaled by constants, to about the range of -1 to 3: an image of the wrong
tone must look wrong."""


class SurrogateDetector(nn.Module):
    """HR picture to one logit per block of 4x4 pixels; sees 67 pixels to each side of a block.

    0.09 GMAC for a crop of 160x160 at 32 channels. Batch normalisation is for its training, which
    took several times the steps without; the generator's terms use fixed statistics
    (`eval`), as those of the picture at hand would hide its errors of tone.

    Source: dilated convolutions after Yu and Koltun 2016; residual branches after He et al. 2016;
    Ioffe and Szegedy 2015 (batch normalisation).
    """

    def __init__(self, *, channels: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_layer(nn.Conv2d(1, channels // 2, 4, stride=2, padding=1, bias=False)),
            *_layer(nn.Conv2d(channels // 2, channels, 4, stride=2, padding=1, bias=False)),
        )
        self.branches = nn.ModuleList(
            nn.Sequential(
                *_layer(nn.Conv2d(channels, channels, 3, padding=reach, dilation=reach, bias=False))
            )
            for reach in DILATIONS
        )
        self.head = nn.Conv2d(channels, 1, 1)
        if self.head.bias is not None:
            nn.init.constant_(self.head.bias, START_LOGIT)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Look at images.

        Args:
            images: (N, 1, H, W) float32 in [0, 1]; H and W multiples of 4.

        Returns:
            Logits (N, 1, H/4, W/4) and the features that they are made of, (N, C, H/4, W/4).
        """
        features = self.stem((images - GREY_LEVEL) * GREY_SCALE)
        for branch in self.branches:
            features = features + branch(features)
        return self.head(features), features


def _layer(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    return convolution, nn.BatchNorm2d(convolution.out_channels), nn.LeakyReLU(0.2)
