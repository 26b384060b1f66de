"""Discriminators of LIR: of images at several scales, and of content codes.

Weights start from N(0, 0.02) and biases from 0, unlike those of encoders and decoders.

Source: Du, Chen and Yang 2020 and its code; the multi-scale one is that of Wang et al. 2018
(pix2pixHD) as in Huang et al. 2018 (MUNIT). Own code.
"""

import torch
from torch import nn
from torch.nn import functional

NUM_HALVINGS = 4
"""Convolutions of stride 2 in each discriminator."""


class ScalesDiscriminator(nn.Module):
    """One PatchGAN without norms for each of several scales of an image.

    Each has four conv4 of stride 2 (w, 2w, 4w, 8w channels, reflecting border, LeakyReLU 0.2) and a
    1x1 convolution to the logit. From scale to scale the image is halved by averaging.

    Args:
        width: w.
        num_scales: Number of scales. The coarsest image, 2^(num_scales - 1) times smaller, must
            have at least 16 px.
    """

    def __init__(self, *, width: int = 64, num_scales: int = 3) -> None:
        super().__init__()
        if width < 1 or num_scales < 1:
            raise ValueError(
                f"width and num_scales are {width} and {num_scales}, expected at least 1"
            )
        self.min_side_px = 2 ** (NUM_HALVINGS + num_scales - 1)
        self.scales = nn.ModuleList(_patches(width) for _ in range(num_scales))
        _initialise(self)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Judge images (N, 1, H, W) float32 in [0, 1]; high logits mean real.

        Returns:
            One (N, 1, H // 16, W // 16) for each scale, the finest first.
        """
        side = min(images.shape[-2:])
        if side < self.min_side_px:
            raise ValueError(
                f"an image for {len(self.scales)} scales has a side of {side} px, expected at "
                f"least {self.min_side_px}"
            )
        logits = []
        for number, scale in enumerate(self.scales):
            if number:
                images = functional.avg_pool2d(
                    images, 3, stride=2, padding=1, count_include_pad=False
                )
            logits.append(scale(images))
        return logits


class ContentDiscriminator(nn.Module):
    """Domain of a content code: four conv3 of stride 2, LeakyReLU 0.01, mean, 1x1 convolution.

    Args:
        channels: Channels of the code and of every layer.
    """

    min_side = 9
    """Places along each axis of a code: fewer leave the last border nothing to reflect."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(NUM_HALVINGS):
            layers += [
                nn.ReflectionPad2d(1),
                nn.Conv2d(channels, channels, 3, stride=2),
                nn.LeakyReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 1, 1))
        _initialise(self)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Judge codes (N, C, h, w); return logits (N,): 0 means domain X and 1 means domain Y."""
        if min(codes.shape[-2:]) < self.min_side:
            raise ValueError(
                f"a content code has {codes.shape[-2]}x{codes.shape[-1]} places, expected at least "
                f"{self.min_side}x{self.min_side}"
            )
        return self.layers(codes).flatten()


def _patches(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = 1
    for number in range(NUM_HALVINGS):
        outputs = width * 2**number
        layers += [
            nn.ReflectionPad2d(1),
            nn.Conv2d(inputs, outputs, 4, stride=2),
            nn.LeakyReLU(0.2),
        ]
        inputs = outputs
    return nn.Sequential(*layers, nn.Conv2d(inputs, 1, 1))


def _initialise(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
