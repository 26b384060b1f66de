"""GrainUNet: a U-Net on the LR grid that gives structure and grain apart; the network that ships.

Wide views are cheap on coarse grids: at the fourth level a 3x3 convolution sees 24 LR pixels, so
the network averages noise over far more of a pattern than `GrainSR` at the same cost. How much
grain there is comes from that coarsest level (`smooth_grain`): it varies slowly, so that grain
cannot be drawn along edges where the structure is uncertain. Cost of 240x240 to 960x960 with a
border of 4: 13.4 GMAC at (48, 80, 128, 192) channels, 4.0 at (24, 48, 64, 96).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from models.blocks import plain_copy
from models.grain_head import LIMIT_MARGIN, GrainGenerator, GrainHead

GREY_CENTRE, GREY_GAIN = 0.4, 3.0
"""Input of the first layer: (grey - centre) * gain, about zero mean and unit spread."""

SLOPE = 0.1
"""Slope of an untrained activation's negative side."""

BRANCH_GAIN = 0.3
"""Gain of an untrained residual branch's last convolution: blocks start near the identity."""


class ResidualBlock(nn.Module):
    """x + conv3(activation(conv3(x))), with one slope for all channels.

    One slope a layer exports as a LeakyRelu, which runtimes fuse into the convolution; a slope for
    each channel costs ONNX Runtime more than the convolution does.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.PReLU(init=SLOPE)
        with torch.no_grad():
            self.b.weight.mul_(BRANCH_GAIN)
        _fill_bias(self.b, 0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape."""
        return x + self.b(self.act(self.a(x)))


class GrainUNet(GrainGenerator):
    """Encoder and decoder with skip connections over levels of 1, 2, 4, 8 LR pixels.

    Source: Ronneberger et al. 2015 (U-Net), with additive skips and residual blocks, without
    normalisation; a wide view for denoising: Mohan et al. 2020.

    Args:
        channels: Channels of each level, finest first.
        blocks: Residual blocks of each level, in the encoder and again in the decoder.
        top_blocks: Residual blocks of the finest level in the decoder, in place of `blocks[0]`.
        scale: Enlargement factor.
        pad: LR pixels by which the image is mirrored at its border while it is computed; twice the
            pad is a multiple of the coarsest level's pixel.
        smooth_grain: Whether the grain's share of its limit comes from the coarsest level, as one
            channel, or from the tail, as one for each HR phase.
        layer_slopes: Whether the last activation too has one slope; its first weights had one for
            each channel.
        grain_colours: Spectra of grain that are mixed, see `GrainHead`.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (48, 96, 128, 192),
        blocks: Sequence[int] = (1, 1, 1, 2),
        top_blocks: int = 1,
        scale: int = 4,
        pad: int = 8,
        smooth_grain: bool = False,
        layer_slopes: bool = False,
        grain_colours: int = 1,
    ) -> None:
        super().__init__()
        if len(channels) < 2 or len(blocks) != len(channels):
            raise ValueError(
                f"expected two levels or more and as many blocks as channels, got {len(channels)} "
                f"channels and {len(blocks)} blocks"
            )
        phases = scale * scale
        self.scale, self.pad, self.smooth_grain = scale, pad, smooth_grain
        self.grid_px = 2 ** (len(channels) - 1)
        if 2 * pad % self.grid_px:
            raise ValueError(
                f"expected twice the pad to be a multiple of the grid's {self.grid_px} px, "
                f"got a pad of {pad}"
            )
        self.receptive_radius_px = _radius_px(blocks, top_blocks, smooth_grain=smooth_grain)
        self.hyper_parameters: dict[str, Any] = {
            "channels": list(channels),
            "blocks": list(blocks),
            "top_blocks": top_blocks,
            "scale": scale,
            "pad": pad,
            **({"smooth_grain": True} if smooth_grain else {}),
            **({"layer_slopes": True} if layer_slopes else {}),
            **({"grain_colours": grain_colours} if grain_colours != 1 else {}),
        }
        levels = range(len(channels) - 1)
        self.head_conv = nn.Conv2d(1, channels[0], 3, padding=1)
        self.enc = nn.ModuleList(map(_blocks, channels, blocks))
        self.down = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], 2, stride=2) for i in levels
        )
        self.up = nn.ModuleList(nn.Conv2d(channels[i + 1], channels[i], 1) for i in levels)
        self.dec = nn.ModuleList(
            _blocks(channels[i], blocks[i] if i else top_blocks) for i in levels
        )
        self.last = nn.PReLU(1 if layer_slopes else channels[0], init=SLOPE)
        outputs = phases if smooth_grain else (1 + grain_colours) * phases
        self.tail = nn.Conv2d(channels[0], outputs, 3, padding=1)
        self.head = GrainHead(phases=phases, colours=grain_colours)
        # Grain as strong as the noise to begin with.
        start = float(torch.logit(torch.tensor(1.0 / LIMIT_MARGIN)))
        nn.init.normal_(self.tail.weight, std=1e-3)
        _fill_bias(self.tail, 0.0, until=phases)
        _fill_bias(self.tail, start, since=phases)
        if smooth_grain:
            self.grain_share = nn.Conv2d(channels[-1], grain_colours, 1)
            with torch.no_grad():
                self.grain_share.weight.mul_(0.1)
            _fill_bias(self.grain_share, start)

    def grain_modules(self) -> list[nn.Module]:
        """Return the head and, if the grain varies slowly, what its strength is read by."""
        return [self.head, self.grain_share] if self.smooth_grain else [self.head]

    def parts(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Enlarge to structure, grain and amplitude; see `GrainGenerator.parts`."""
        padded, structure, amplitude = self._phases(lr)
        phases = (structure, self.head(padded, amplitude), amplitude)
        structure, grain, amplitude = (self._finish(part, lr) for part in phases)
        return structure, grain, amplitude

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, 1, H, W) float32 in [0, 1] to (N, 1, s*H, s*W), not clamped.

        Sides that are not multiples of `grid_px` are mirrored at their end up to one; H and W are
        at least `grid_px` and more than `pad`.
        """
        padded, structure, amplitude = self._phases(lr)
        return self._finish(structure + self.head(padded, amplitude), lr)

    def merged(self) -> nn.Module:
        """Return a copy in eval mode, its activations of one slope as LeakyReLU, for export."""
        return plain_copy(self, _leaky_relu)

    def _phases(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the padded image, its structure and the grain's amplitude.

        Structure and amplitude have the padded image's height and width. Their channels are the
        s*s HR pixels (phases) of each LR pixel, before the pixel shuffle: s*s for the structure,
        colours * s*s for the amplitude.
        """
        # By a fixed width and cut: a padding computed from the size is exported for one size only.
        # First to the grid, as a service does that mirrors the last tile of a large image.
        grid = self.grid_px
        image = functional.pad(lr, (0, grid - 1, 0, grid - 1), mode="reflect")
        # Of positive numbers: ONNX divides towards zero.
        rows, columns = ((side + grid - 1) // grid * grid for side in lr.shape[2:])
        image = functional.pad(image[:, :, :rows, :columns], (self.pad,) * 4, mode="reflect")
        features = self.head_conv((image - GREY_CENTRE) * GREY_GAIN)
        skips: list[torch.Tensor] = []
        for encode, down in zip(self.enc, self.down, strict=False):
            features = encode(features)
            skips.append(features)
            features = down(features)
        coarsest = features = self.enc[-1](features)
        steps = list(zip(self.up, self.dec, skips, strict=True))
        for up, decode, skip in reversed(steps):
            enlarged = functional.interpolate(up(features), scale_factor=2.0, mode="nearest")
            features = decode(skip + enlarged)
        outputs = self.tail(self.last(features))
        count = self.scale * self.scale
        structure = outputs[:, :count] + image
        share = outputs[:, count:]
        if self.smooth_grain:
            share = functional.interpolate(
                self.grain_share(coarsest),
                scale_factor=float(self.grid_px),
                mode="bilinear",
                align_corners=False,
            )
        return image, structure, self.head.amplitude(share, structure)

    def _finish(self, phases: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        """Cut what was added around `lr` off and shuffle the phases into place."""
        (height, width), pad = lr.shape[2:], self.pad
        inner = phases[:, :, pad : pad + height, pad : pad + width]
        return functional.pixel_shuffle(inner, self.scale)


def _leaky_relu(layer: nn.Module) -> nn.Module | None:
    if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
        return nn.LeakyReLU(float(layer.weight.detach()))
    return None


def _fill_bias(layer: nn.Conv2d, value: float, *, since: int = 0, until: int | None = None) -> None:
    if layer.bias is None:
        raise TypeError(f"{layer} needs a bias")
    with torch.no_grad():
        layer.bias[since:until] = value


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


def _radius_px(blocks: Sequence[int], top_blocks: int, *, smooth_grain: bool) -> int:
    """Return the farthest that any output looks, LR pixels, over all places on the grid.

    Views are followed from the output to the image as intervals (first, last) of a level's pixels.
    """
    last = len(blocks) - 1

    def encoder_view(level: int, first: int, end: int) -> tuple[int, int]:
        first, end = first - 2 * blocks[level], end + 2 * blocks[level]
        if level == 0:
            return first - 1, end + 1  # the first convolution
        return encoder_view(level - 1, 2 * first, 2 * end + 1)

    def decoder_view(level: int, first: int, end: int) -> tuple[int, int]:
        if level == last:
            return encoder_view(level, first, end)
        reach = 2 * (blocks[level] if level else top_blocks)
        first, end = first - reach, end + reach
        skip = encoder_view(level, first, end)
        below = decoder_view(level + 1, first // 2, end // 2)
        return min(skip[0], below[0]), max(skip[1], below[1])

    grid = 2**last
    radius = 2  # of the noise and its colour
    for place in range(grid):
        views = [decoder_view(0, place - 1, place + 1)]  # the last convolution
        if smooth_grain:
            left = (2 * place + 1 - grid) // (2 * grid)  # of the two that are interpolated
            views.append(encoder_view(last, left, left + 1))
        radius = max(radius, *(max(place - first, end - place) for first, end in views))
    return radius
