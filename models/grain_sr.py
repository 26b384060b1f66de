"""GrainSR: `RepSR` that gives structure and grain apart; the network that is served.

Structure is what the coarse image tells; grain is what a fine image has besides, and what no coarse
image can tell: shot noise and the finest texture. A network that must give both with one output
either leaves the grain out or learns to copy the coarse image's noise; here it says how much grain
there is at each pixel, and `HashNoise` supplies it. Cost at 48 channels and 8 blocks, 240x240 to
960x960: 11.2 GMAC.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from models.generator import Generator
from models.grain import HashNoise
from models.rep_sr import PlainSR, RepSR

BORDER_PX = 4
"""LR pixels by which the image is mirrored at its border while it is computed. The zeros that
convolutions pad with would be seen as dark structure; repeated pixels as streaks."""

START_AMPLITUDE = 3.0 / 255.0
"""Grain of an untrained network, in units of [0, 1]: about that of a slow scan."""

LIMIT_MARGIN = 1.5
"""The grain's greatest amplitude as a multiple of the noise that HR images have at that grey: some
texture may come with it, but it must not paint over what is uncertain, as at blurred edges."""


class GrainHead(nn.Module):
    """Coloured noise of a given local amplitude, on the LR grid with one channel for each HR phase.

    grain = amplitude * conv3(HashNoise(lr)), amplitude = limit * sigmoid(share), limit = 1.5 *
    sqrt(base + slope * structure): the noise of a slow scan at that grey. The convolution gives the
    noise its spectrum over about 12 HR pixels; it starts as an orthogonal mixture of the phases,
    which keeps white noise white and makes its uniform values normal.
    """

    def __init__(self, *, phases: int) -> None:
        super().__init__()
        self.noise = HashNoise(channels=phases)
        self.colour = nn.Conv2d(phases, phases, 3, padding=1, bias=False)
        nn.init.zeros_(self.colour.weight)
        generator = torch.Generator().manual_seed(phases)
        with torch.no_grad():
            mixture, _ = torch.linalg.qr(torch.randn(phases, phases, generator=generator))
            self.colour.weight[:, :, 1, 1] = mixture
        self.register_buffer("noise_variance", torch.tensor([START_AMPLITUDE**2, 0.0]))
        self.noise_variance: torch.Tensor

    def forward(self, lr: torch.Tensor, amplitude: torch.Tensor) -> torch.Tensor:
        """(N, 1, H, W) in [0, 1] and the amplitude, (N, phases, H, W), to the grain, the same."""
        return amplitude * self.colour(self.noise(lr))

    def amplitude(self, share: torch.Tensor, structure: torch.Tensor) -> torch.Tensor:
        """Return the amplitude, (N, phases, H, W) in units of [0, 1].

        Args:
            share: (N, phases, H, W) of the limit, before the sigmoid.
            structure: The same shape, grey in [0, 1]. It gets no gradient from here.
        """
        base, slope = self.noise_variance
        limit = LIMIT_MARGIN * torch.sqrt(base + slope * structure.detach().clamp(min=0.0))
        return limit * torch.sigmoid(share)


class GrainSR(Generator):
    """`RepSR` with a tail that gives structure and the grain's amplitude, and a `GrainHead`.

    Source: structure and noise apart as in Wolf et al. 2021 and in the stochastic detail of
    StyleGAN (Karras et al. 2019); noise by hashing the input is our own.
    """

    def __init__(
        self,
        *,
        channels: int = 48,
        num_blocks: int = 8,
        scale: int = 4,
        expansion: int = 2,
        dilations: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = RepSR(
            channels=channels,
            num_blocks=num_blocks,
            scale=scale,
            expansion=expansion,
            extra_outputs=scale * scale,
            dilations=dilations,
        )
        self.head = GrainHead(phases=scale * scale)
        self.scale = scale
        self.receptive_radius_px = self.trunk.receptive_radius_px
        self.hyper_parameters: dict[str, Any] = {
            "channels": channels,
            "num_blocks": num_blocks,
            "scale": scale,
            "expansion": expansion,
            **({} if dilations is None else {"dilations": list(dilations)}),
        }
        bias = self.trunk.tail.bias
        if bias is None:
            raise TypeError("the trunk's tail needs a bias")
        with torch.no_grad():
            # Grain as strong as the noise to begin with.
            bias[scale * scale :] = torch.logit(torch.tensor(1.0 / LIMIT_MARGIN))

    def limit_grain(self, *, base: float, slope: float) -> None:
        """Set the noise that bounds the grain: variance base + slope * grey, in grey levels."""
        with torch.no_grad():
            self.head.noise_variance.copy_(torch.tensor([base / 255.0**2, slope / 255.0]))

    def parts(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Enlarge, and return structure, grain and the grain's amplitude apart.

        Returns:
            Three of (N, 1, s*H, s*W) float32: `forward` is structure plus grain; the amplitude is
            positive, the grain's local standard deviation where the colour is white.
        """
        padded = _pad(lr)
        structure, share = self.trunk.phases(padded)
        amplitude = self.head.amplitude(share, structure)
        phases = (structure, self.head(padded, amplitude), amplitude)
        structure, grain, amplitude = (_finish(part, self.scale) for part in phases)
        return structure, grain, amplitude

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, 1, H, W) float32 in [0, 1] to (N, 1, s*H, s*W), not clamped."""
        padded = _pad(lr)
        structure, share = self.trunk.phases(padded)
        amplitude = self.head.amplitude(share, structure)
        return _finish(structure + self.head(padded, amplitude), self.scale)

    def forward_branches(self, lr: torch.Tensor) -> torch.Tensor:
        """Compute `forward` branch by branch: the slow definition, for tests."""
        padded = _pad(lr)
        structure, share = self.trunk.phases_by_branches(padded)
        amplitude = self.head.amplitude(share, structure)
        return _finish(structure + self.head(padded, amplitude), self.scale)

    def merged(self) -> "PlainGrainSR":
        """Return the same function as plain convolutions, in eval mode."""
        return PlainGrainSR(source=self)


class PlainGrainSR(nn.Module):
    """The merged form of a `GrainSR`, for export and serving."""

    def __init__(self, *, source: GrainSR) -> None:
        super().__init__()
        self.scale = source.scale
        self.receptive_radius_px = source.receptive_radius_px
        self.trunk = PlainSR(source=source.trunk)
        self.head = GrainHead(phases=source.scale**2)
        self.head.load_state_dict(source.head.state_dict())
        self.requires_grad_(requires_grad=False)
        self.eval()

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, 1, H, W) float32 in [0, 1] to (N, 1, s*H, s*W), not clamped."""
        padded = _pad(lr)
        structure, share = self.trunk.phases(padded)
        amplitude = self.head.amplitude(share, structure)
        return _finish(structure + self.head(padded, amplitude), self.scale)


def _pad(lr: torch.Tensor) -> torch.Tensor:
    return functional.pad(lr, (BORDER_PX,) * 4, mode="reflect")


def _finish(phases: torch.Tensor, scale: int) -> torch.Tensor:
    """Cut the border off and shuffle the phases into place."""
    inner = phases[:, :, BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
    return functional.pixel_shuffle(inner, scale)
