"""Encoders and decoders of LIR: images to codes on a grid of a quarter of their size, and back.

Every image has two codes at most: its content, and in one of the two domains the noise or style
that the other domain lacks. The range [-1, 1] of the tanh exists only inside these networks.

Source: Du, Chen and Yang 2020, "Learning Invariant Representation for Unsupervised Image
Restoration", whose networks are those of Liu et al. 2017 (UNIT); own code.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

Norm = Literal["batch", "instance"]
StylePool = Literal["none", "mean"]

CODE_STRIDE = 4
"""Image pixels, along each axis, for one place of a code: two halvings."""


class ContentEncoder(nn.Module):
    """Image to content code: conv7 1->w, two halving conv4 to 4w, residual blocks.

    Args:
        width: w, channels at the size of the image.
        num_blocks: Residual blocks at the size of the code.
        norm: Layer behind each convolution. "batch" has affine parameters and running statistics,
            as published, and wants batches of at least 16 crops; "instance" has neither.
    """

    def __init__(self, *, width: int, num_blocks: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_halvings(width, norm),
            *(CodeBlock(channels=4 * width, norm=norm) for _ in range(num_blocks)),
        )
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode (N, 1, H, W) float32 in [0, 1], H and W at least 8, to (N, 4w, H//4, W//4)."""
        return self.layers(images * 2.0 - 1.0)


class StyleEncoder(nn.Module):
    """Image to noise or style code: the content encoder's convolutions, then a 1x1 convolution.

    Args:
        width: w, channels at the size of the image.
        norm: See `ContentEncoder`.
        pool: "none" keeps the map, as published: it can carry the whole image. "mean" averages it
            to one vector an image, which cannot.
    """

    def __init__(self, *, width: int, norm: Norm, pool: StylePool = "none") -> None:
        super().__init__()
        self.pool = pool
        self.layers = nn.Sequential(*_halvings(width, norm), nn.Conv2d(4 * width, 4 * width, 1))
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode (N, 1, H, W) float32 in [0, 1].

        Returns:
            (N, 4w, H//4, W//4), or (N, 4w, 1, 1) if pooled.
        """
        code = self.layers(images * 2.0 - 1.0)
        return code.mean(dim=(2, 3), keepdim=True) if self.pool == "mean" else code


class ContentDecoder(nn.Module):
    """Code to image: residual blocks, two doublings with conv5 and layer norm, conv7, tanh.

    Args:
        channels: Channels of the code; each doubling halves them.
        num_blocks: Residual blocks at the size of the code.
        norm: Norm of the blocks, see `ContentEncoder`.
    """

    def __init__(self, *, channels: int, num_blocks: int, norm: Norm) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(CodeBlock(channels=channels, norm=norm) for _ in range(num_blocks))
        )
        self.up = _doublings(channels)
        initialise(self)

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        """Decode (N, C, h, w), h and w at least 2, to (N, 1, 4h, 4w) in [0, 1]."""
        return self.up(self.blocks(code)) * 0.5 + 0.5


class StyledDecoder(nn.Module):
    """Content and style code to image.

    A map of styles is concatenated with the content, as published, so that blocks and doublings are
    twice as wide as those of `ContentDecoder`. A pooled style sets gain and offset behind the norms
    of the blocks (AdaIN, Huang and Belongie 2017): it can change the look of features everywhere
    alike, and no place.

    Args:
        width: w, as in the encoders.
        num_blocks: Residual blocks at the size of the code.
        norm: Norm of the blocks; with a pooled style it is always instance norm.
        pool: Pooling of the style code, see `StyleEncoder`.
    """

    def __init__(self, *, width: int, num_blocks: int, norm: Norm, pool: StylePool) -> None:
        super().__init__()
        self.pool = pool
        channels = 4 * width
        if pool == "none":
            self.plain = ContentDecoder(channels=2 * channels, num_blocks=num_blocks, norm=norm)
        else:
            blocks = [StyledBlock(channels=channels) for _ in range(num_blocks)]
            self.blocks = nn.ModuleList(blocks)
            self.up = _doublings(channels)
            initialise(self)
            for block in blocks:
                block.start_neutral()

    def forward(self, content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """Decode to an image (N, 1, 4h, 4w) in [0, 1].

        Args:
            content: (N, 4w, h, w).
            style: The same shape, or (N, 4w, 1, 1) if pooled.

        Raises:
            ValueError: The style has another shape.
        """
        expected = content.shape if self.pool == "none" else (*content.shape[:2], 1, 1)
        if tuple(style.shape) != tuple(expected):
            raise ValueError(
                f"style code has shape {tuple(style.shape)}, expected {tuple(expected)} for "
                f"style_pool {self.pool!r} and a content code of shape {tuple(content.shape)}"
            )
        if self.pool == "none":
            return self.plain(torch.cat([content, style], dim=1))
        features = content
        for block in self.blocks:
            features = block(features, style)
        return self.up(features) * 0.5 + 0.5


class CodeBlock(nn.Module):
    """Twice [reflect-pad 1, conv3, norm], a ReLU between them, plus the input."""

    def __init__(self, *, channels: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(channels, channels, 3, norm=norm),
            nn.ReLU(inplace=True),
            *_convolution(channels, channels, 3, norm=norm),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) to the same shape; h and w at least 2."""
        return features + self.layers(features)


class StyledBlock(nn.Module):
    """`CodeBlock` with instance norm, whose gains and offsets a style vector sets."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_convolution(channels, channels, 3, norm="instance"))
        self.second = nn.Sequential(*_convolution(channels, channels, 3, norm="instance"))
        self.modulations = nn.ModuleList(nn.Conv2d(channels, 2 * channels, 1) for _ in range(2))

    def start_neutral(self) -> None:
        """Start close to plain instance norm: small weights, as Kaiming's would swamp the norm."""
        for modulation in self.modulations:
            nn.init.normal_(modulation.get_parameter("weight"), std=0.02)

    def forward(self, features: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) and a style (N, C, 1, 1) to (N, C, h, w)."""
        first = torch.relu(_modulated(self.first(features), self.modulations[0](style)))
        return features + _modulated(self.second(first), self.modulations[1](style))


def initialise(network: nn.Module) -> None:
    """Draw the weights as published: convolutions Kaiming-normal, gains of layer norms uniform."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.GroupNorm):
            nn.init.uniform_(layer.weight)


def _modulated(features: torch.Tensor, modulation: torch.Tensor) -> torch.Tensor:
    gain, offset = modulation.chunk(2, dim=1)
    return features * (1.0 + gain) + offset


def _halvings(width: int, norm: Norm) -> list[nn.Module]:
    """Return conv7 1->w and two conv4 of stride 2, w->2w->4w, each with norm and ReLU."""
    return [
        *_convolution(1, width, 7, norm=norm),
        nn.ReLU(inplace=True),
        *_convolution(width, 2 * width, 4, norm=norm, stride=2),
        nn.ReLU(inplace=True),
        *_convolution(2 * width, 4 * width, 4, norm=norm, stride=2),
        nn.ReLU(inplace=True),
    ]


def _doublings(channels: int) -> nn.Sequential:
    """Return twice [nearest x2, conv5 to half, layer norm, ReLU], then conv7 to 1 and tanh."""
    half, quarter = channels // 2, channels // 4
    return nn.Sequential(
        nn.Upsample(scale_factor=2),
        *_convolution(channels, half, 5, norm="layer"),
        nn.ReLU(inplace=True),
        nn.Upsample(scale_factor=2),
        *_convolution(half, quarter, 5, norm="layer"),
        nn.ReLU(inplace=True),
        nn.ReflectionPad2d(3),
        nn.Conv2d(quarter, 1, 7),
        nn.Tanh(),
    )


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
    # Over all channels and places of an image, with a gain and an offset for each channel.
    "layer": lambda channels: nn.GroupNorm(1, channels),
}


def _convolution(
    inputs: int, outputs: int, kernel: int, *, norm: str, stride: int = 1
) -> list[nn.Module]:
    """Return a convolution with a reflected border and its norm.

    Batch and instance norm remove a bias before them, so only layer norm has one.
    """
    border = (kernel - 1) // 2
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, bias=norm == "layer")
    return [nn.ReflectionPad2d(border), convolution, _NORMS[norm](outputs)]
