"""Grain apart from structure: the head that makes it, and the base of the generators that have one.

Structure is the part of a fine image that the coarse image determines; grain is the rest: shot
noise and the finest texture. A network that must give both with one output either leaves the grain
out or learns to copy the coarse image's noise; with a head of its own it says how much grain there
is, and `HashNoise` supplies it.
"""

from abc import abstractmethod

import torch
from torch import nn

from models.generator import Generator
from models.grain import HashNoise

START_AMPLITUDE = 3.0 / 255.0
"""Grain of an untrained network, in units of [0, 1]: about that of a slow scan."""

LIMIT_MARGIN = 1.5
"""The grain's greatest amplitude as a multiple of the noise that HR images have at that grey: some
texture may come with it, but it must not paint over what is uncertain, as at blurred edges."""


class GrainHead(nn.Module):
    """Coloured noise of a given local amplitude, on the LR grid with one channel for each HR phase.

    grain = sum over colours of amplitude * conv3(HashNoise(lr)), where amplitude = limit *
    sigmoid(share) and limit = 1.5 * sqrt(base + slope * structure): the noise of a slow scan. The
    convolution gives the noise its spectrum over about 12 HR pixels; it starts as an orthogonal
    mixture of the phases, which keeps white noise white and makes its uniform values normal.
    """

    def __init__(self, *, phases: int, colours: int = 1) -> None:
        """Make the head.

        Args:
            phases: HR pixels of an LR pixel, s*s.
            colours: Spectra that are mixed, each by an amplitude of its own: tools differ in the
                grain of their fine scans, and one network may have learned several.
        """
        super().__init__()
        self.phases, self.colours = phases, colours
        self.noise = HashNoise(channels=phases)
        self.colour = nn.Conv2d(phases, colours * phases, 3, padding=1, bias=False)
        nn.init.zeros_(self.colour.weight)
        generator = torch.Generator().manual_seed(phases)
        with torch.no_grad():
            for number in range(colours):
                mixture, _ = torch.linalg.qr(torch.randn(phases, phases, generator=generator))
                part = slice(number * phases, (number + 1) * phases)
                self.colour.weight[part, :, 1, 1] = mixture
        self.register_buffer("noise_variance", torch.tensor([START_AMPLITUDE**2, 0.0]))
        self.noise_variance: torch.Tensor

    def forward(self, lr: torch.Tensor, amplitude: torch.Tensor) -> torch.Tensor:
        """Make the grain, (N, phases, H, W).

        Args:
            lr: (N, 1, H, W) in [0, 1].
            amplitude: (N, colours * phases, H, W), colour by colour.
        """
        grain = amplitude * self.colour(self.noise(lr))
        if self.colours == 1:
            return grain
        total, *others = grain.split(self.phases, dim=1)
        for other in others:
            total = total + other
        return total

    def amplitude(self, share: torch.Tensor, structure: torch.Tensor) -> torch.Tensor:
        """Return the amplitudes, (N, colours * phases, H, W) in units of [0, 1].

        Args:
            share: Part of the limit, before the sigmoid: (N, colours * phases, H, W), or one
                channel a colour, (N, colours, H, W).
            structure: (N, phases, H, W), grey in [0, 1]. It gets no gradient from here.
        """
        base, slope = self.noise_variance
        limit = LIMIT_MARGIN * torch.sqrt(base + slope * structure.detach().clamp(min=0.0))
        parts = torch.sigmoid(share).chunk(self.colours, dim=1)
        return torch.cat([limit * part for part in parts], dim=1)


class GrainGenerator(Generator):
    """A generator that gives structure and grain apart.

    Attributes:
        head: Module that makes the grain.

    Source: structure and noise apart as in Wolf et al. 2021 and in the stochastic detail of
    StyleGAN (Karras et al. 2019); noise by hashing the input is our own.
    """

    head: GrainHead

    @abstractmethod
    def parts(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Enlarge, and return structure, grain and the grain's amplitude apart.

        Args:
            lr: (N, 1, H, W) float32 in [0, 1].

        Returns:
            Three of float32: structure and grain, (N, 1, s*H, s*W), whose sum is what `forward`
            gives, and the amplitude, (N, colours, s*H, s*W), positive: the local standard deviation
            of each colour's grain where the colour is white.
        """

    def grain_modules(self) -> list[nn.Module]:
        """Return the modules that affect the grain alone, never the structure."""
        return [self.head]

    def limit_grain(self, *, base: float, slope: float, only_widen: bool = False) -> None:
        """Set the noise that bounds the grain: variance base + slope * grey, in grey levels.

        Args:
            base: Variance at black, grey levels squared.
            slope: Growth of the variance with grey, grey levels.
            only_widen: Whether base and slope each stay where they are greater already.
        """
        known = self.head.noise_variance
        wanted = torch.tensor([base / 255.0**2, slope / 255.0], device=known.device)
        with torch.no_grad():
            known.copy_(torch.maximum(known, wanted) if only_widen else wanted)
