"""MASA: reference-based super-resolution, to compare with; it can be neither exported nor served.

Flow: LR, reduced reference and reference -> encoder -> `masa_matching` (which place of the
reference looks like each LR place) -> reference features at x1, x2 and x4 -> adapted, joined with
the LR features -> residual picture + bicubic.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from models.blocks import BicubicUpsample
from models.masa_layers import (
    Decoder,
    DualResidualAggregation,
    Encoder,
    SpatialAdaptation,
    convolution,
    residual_blocks,
)
from models.masa_matching import match, transfer
from models.network import ReferenceNetwork

SCALES = (1, 2, 4)
"""Scales at which reference features join, relative to the LR grid."""


class Masa(ReferenceNetwork):
    """MASA-SR on grey images, x4.

    The published network has 64 channels, 4 residual blocks a level of the encoder, 2 a level of
    the decoder, and 12, 8 and 4 behind the joints at x1, x2 and x4: 4.3 M parameters. A tile of
    240x240 LR px with a reference of 960x960 px costs 1,322 GMAC, 368 of them for the reference's
    own features.

    Where the description that this was built from is silent: the adaptation at x2 and x4 compares
    with the LR features enlarged bilinearly; scores are enlarged over the whole picture and not
    block by block; the tail is conv3, ReLU, conv3.

    Source: Lu et al. 2021, "MASA-SR: Matching Acceleration and Spatial Adaptation for
    Reference-Based Image Super-Resolution". Own code.

    Args:
        scale: Enlargement; 4 alone, as the three levels of the encoder are those of x4.
        channels: Channels of all layers.
        encoder_blocks: Residual blocks of each level of the encoder.
        decoder_blocks: Residual blocks of each level of the decoder.
        blocks: Residual blocks behind the joints at x1, x2 and x4.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        channels: int = 64,
        encoder_blocks: int = 4,
        decoder_blocks: int = 2,
        blocks: Sequence[int] = (12, 8, 4),
    ) -> None:
        super().__init__()
        if scale != SCALES[-1]:
            raise ValueError(f"scale must be {SCALES[-1]}, got {scale}")
        if channels < 1 or min(encoder_blocks, decoder_blocks, *blocks) < 0:
            raise ValueError(
                "channels must be at least 1 and numbers of blocks at least 0, got "
                f"{channels}, {encoder_blocks}, {decoder_blocks}, {list(blocks)}"
            )
        if len(blocks) != len(SCALES):
            raise ValueError(f"blocks must be {len(SCALES)} numbers, got {list(blocks)}")
        self.scale = scale
        self.hyper_parameters: dict[str, Any] = {
            "scale": scale,
            "channels": channels,
            "encoder_blocks": encoder_blocks,
            "decoder_blocks": decoder_blocks,
            "blocks": list(blocks),
        }
        self.enlarge = BicubicUpsample(scale=scale)
        self.encoder = Encoder(channels=channels, num_blocks=encoder_blocks)
        self.decoder = Decoder(channels=channels, num_blocks=decoder_blocks)
        self.adapt = nn.ModuleList(SpatialAdaptation(channels) for _ in SCALES)
        self.join = convolution(2 * channels, channels)
        self.aggregate = nn.ModuleList(DualResidualAggregation(channels) for _ in SCALES[1:])
        self.body = nn.ModuleList(residual_blocks(channels, count) for count in blocks)
        self.tail = nn.Sequential(
            convolution(channels, channels), nn.ReLU(), convolution(channels, 1)
        )

    def forward(self, lr: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, 1, H, W) to (N, 1, 4H, 4W) with a reference for each, or one for all.

        The LR image may have any size. Of a reference whose sides are not multiples of 4, the last
        rows and columns are left out. `ReferenceNetwork.forward` describes the arguments.

        Raises:
            ValueError: The reference is smaller than 4 px or belongs to another number of images.
        """
        reference = self._usable(lr, reference)
        lr_levels = self.encoder(lr)
        reference_levels = self._reference_features(lr_levels[0], reference)
        features = self.decoder(lr_levels)
        adapted = self.adapt[0](features, reference_levels[0])
        features = self.body[0](functional.relu(self.join(torch.cat([features, adapted], dim=1))))
        stages = zip(
            self.adapt[1:], self.aggregate, self.body[1:], reference_levels[1:], strict=True
        )
        for adapt, aggregate, body, from_reference in stages:
            enlarged = functional.interpolate(
                features, scale_factor=2.0, mode="bilinear", align_corners=False
            )
            features = body(aggregate(features, adapt(enlarged, from_reference)))
        return self.tail(features) + self.enlarge(lr)

    def reduced(self, reference: torch.Tensor) -> torch.Tensor:
        """Reduce a reference (N, 1, R, R') to the LR grid, (N, 1, R/4, R'/4), by Keys' cubic."""
        size = [side // self.scale for side in reference.shape[-2:]]
        return functional.interpolate(reference, size=size, mode="bicubic", antialias=True)

    def _usable(self, lr: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        height, width = (side - side % self.scale for side in reference.shape[-2:])
        if not (height and width):
            raise ValueError(
                f"the reference is {tuple(reference.shape[-2:])} px; expected at least "
                f"{self.scale} px a side"
            )
        if len(reference) not in (1, len(lr)):
            raise ValueError(
                f"{len(reference)} references for {len(lr)} LR images; expected one for each, or "
                "one for all"
            )
        return reference[..., :height, :width]

    def _reference_features(
        self, lr_features: torch.Tensor, reference: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return the transferred features at x1, x2 and x4, (N, C, s*H, s*W) each."""
        height, width = lr_features.shape[-2:]
        levels = self.encoder(reference)
        [on_lr_grid] = self.encoder(self.reduced(reference), levels=1)
        # In half precision, scores of near-equal places tie.
        with torch.autocast(lr_features.device.type, enabled=False):
            matches = match(lr_features.float(), on_lr_grid.float())
            return [
                transfer(features.float(), matches, scale=scale)[
                    ..., : scale * height, : scale * width
                ]
                for scale, features in zip(SCALES, reversed(levels), strict=True)
            ]
