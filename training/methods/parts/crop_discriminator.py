"""Discriminator that judges a whole crop by one logit: VGG-style, with batch norm."""

import torch
from torch import nn


class CropDiscriminator(nn.Module):
    """Pairs of 3x3 convolutions, the second of stride 2, then two dense layers.

    Batch norm behind every convolution but the first, LeakyReLU 0.2 behind all. The number of
    channels doubles with each halving, up to 16 times `width`. The dense layers fix the size of a
    crop. Batch norm always takes the statistics of the batch in training; its running statistics
    are buffers, which a resumed run restores with the weights.

    Args:
        side_px: Side of a crop.
        width: Channels of the first convolution.
        num_layers: Halvings.
        hidden: Width of the first dense layer.

    Source: Ledig et al. 2017 (SRGAN), section 2.1.1, at the sizes for crops of 160 px that the
    reference-based family uses (Lu et al. 2021); own code.
    """

    def __init__(
        self, *, side_px: int, width: int = 32, num_layers: int = 5, hidden: int = 1024
    ) -> None:
        super().__init__()
        if min(side_px, width, num_layers, hidden) < 1:
            raise ValueError(
                "side_px, width, num_layers and hidden must be at least 1, got "
                f"{side_px}, {width}, {num_layers}, {hidden}"
            )
        self.side_px = side_px
        layers: list[nn.Module] = []
        channels, side = 1, side_px
        for number in range(num_layers):
            wider = width * min(2**number, 16)
            for stride, inputs in ((1, channels), (2, wider)):
                layers.append(nn.Conv2d(inputs, wider, 3, stride=stride, padding=1))
                if len(layers) > 1:
                    layers.append(nn.BatchNorm2d(wider))
                layers.append(nn.LeakyReLU(0.2))
            channels, side = wider, (side + 1) // 2
        self.layers = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(channels * side * side, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Judge crops (N, 1, side_px, side_px) float32 in [0, 1]; return logits (N, 1).

        Raises:
            ValueError: The crops have another size.
        """
        if tuple(images.shape[1:]) != (1, self.side_px, self.side_px):
            raise ValueError(
                f"the discriminator judges crops (N, 1, {self.side_px}, {self.side_px}), got "
                f"{tuple(images.shape)}"
            )
        return self.layers(images * 2 - 1)
