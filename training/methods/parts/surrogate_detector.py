"""Surrogate detector: a small network that learns to find planted defects in HR crops during a run.

In production, a defect detector for HR images reads the service's SR images. That detector is
unknown when the generator is trained, and the evaluation's detector must not be used. A run
therefore trains a surrogate on its HR crops and the masks of their planted defects. The surrogate's
logits on the generator's pictures become loss terms (`training.losses.detection`).

The surrogate differs from the evaluation's detector on purpose, so that the generator is not tuned
to that detector: dilated convolutions at one scale instead of a U-Net, other weights, other images.
"""

import torch
from torch import nn

CELL_PX = 4
"""Side of the block of HR pixels that one logit is about."""

DILATIONS = (1, 2, 4, 8, 1)
START_LOGIT = -3.0
"""Initial bias of the head: about the logit of the share of cells that belong to a defect."""

GREY_LEVEL = 0.2
GREY_SCALE = 5.0
"""Constants that shift and scale the input to about -1 to 3. They do not depend on the image, so
that the detector sees a wrong tone."""


class SurrogateDetector(nn.Module):
    """Network that computes one logit for each 4x4 block of HR pixels.

    A logit depends on up to 67 pixels to each side of its block. A crop of 160x160 costs 0.09 GMAC
    at 32 channels. Batch normalisation speeds up training: without it, several times as many steps
    were needed. The generator's terms use its running statistics (`eval`), because the statistics
    of the current pictures would hide their errors of tone.

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
