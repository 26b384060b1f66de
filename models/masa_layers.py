"""Layers of MASA-SR: encoder, decoder, spatial adaptation and dual residual aggregation.

Plain convolutions of 3x3 with a border of zeros; no normalisation but in the adaptation.

Source: Lu et al. 2021, "MASA-SR: Matching Acceleration and Spatial Adaptation for Reference-Based
Image Super-Resolution", sections 3.1, 3.3 and 3.4. Own code.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

_EPS = 1e-5
_RESIDUAL_SHARE = 0.1


def convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution with weights of deviation 0.5 sqrt(2 / (9 C)), C input channels."""
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    nn.init.normal_(layer.weight, std=0.5 * (2 / (9 * inputs)) ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """conv3, ReLU, conv3, plus the input; weights start at a tenth of a convolution's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = convolution(channels, channels)
        with torch.no_grad():
            self.first.weight.mul_(_RESIDUAL_SHARE)
            self.second.weight.mul_(_RESIDUAL_SHARE)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape."""
        return features + self.second(functional.relu(self.first(features)))


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """Return blocks one after the other; none gives the identity."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


class Encoder(nn.Module):
    """Three levels of features, each half as fine as the previous one; shared by all images."""

    def __init__(self, *, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.enter = nn.ModuleList(
            convolution(1 if level == 0 else channels, channels, stride=1 if level == 0 else 2)
            for level in range(3)
        )
        self.blocks = nn.ModuleList(residual_blocks(channels, num_blocks) for _ in range(3))

    def forward(self, image: torch.Tensor, *, levels: int = 3) -> list[torch.Tensor]:
        """Return the first levels' features, (N, C, ceil(H / 2^k), ceil(W / 2^k)), finest first."""
        found: list[torch.Tensor] = []
        features = image
        for enter, blocks in zip(self.enter[:levels], self.blocks[:levels], strict=True):
            features = blocks(functional.relu(enter(features)))
            found.append(features)
        return found


class Decoder(nn.Module):
    """Small U: from the coarsest of three levels to the finest, joining each on the way."""

    def __init__(self, *, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(residual_blocks(channels, num_blocks) for _ in range(3))
        self.join = nn.ModuleList(convolution(2 * channels, channels) for _ in range(2))

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return features of the finest level, (N, C, H, W), from the encoder's three."""
        fine, middle, coarse = levels
        features = self.blocks[0](coarse)
        for skip, join, blocks in zip((middle, fine), self.join, self.blocks[1:], strict=True):
            # To the finer level's own size: sides need not be multiples of 4.
            features = functional.interpolate(features, size=skip.shape[-2:], mode="nearest")
            features = blocks(functional.relu(join(torch.cat([features, skip], dim=1))))
        return features


class SpatialAdaptation(nn.Module):
    """Gives reference features the mean and deviation of the LR features, and learns the rest.

    Normalised reference features times (gain + LR's deviation) plus (offset + LR's mean). Gain and
    offset are maps computed from both; they start at 0, so that an untrained layer transfers mean
    and deviation exactly.

    Source: Lu et al. 2021, eq. 6 to 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.joint = convolution(2 * channels, channels)
        self.gain = convolution(channels, channels)
        self.offset = convolution(channels, channels)
        for layer in (self.gain, self.offset):
            nn.init.zeros_(layer.weight)

    def forward(self, lr: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Adapt reference features to LR features, both (N, C, H, W); returns the same shape."""
        joint = functional.relu(self.joint(torch.cat([lr, reference], dim=1)))
        mean, deviation = _moments(lr)
        reference_mean, reference_deviation = _moments(reference)
        normalised = (reference - reference_mean) / reference_deviation
        return normalised * (self.gain(joint) + deviation) + self.offset(joint) + mean


class DualResidualAggregation(nn.Module):
    """Joins LR features with reference features of twice the size by what each lacks.

    a = relu(up(relu(down(reference)) - lr)) + reference, b = relu(up(lr - relu(down(reference)) +
    lr)), output relu(conv([a, b])).

    Source: Lu et al. 2021, eq. 9 to 11.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down_a, self.down_b = (convolution(channels, channels, stride=2) for _ in range(2))
        self.up_a, self.up_b = (_doubling(channels) for _ in range(2))
        self.join = convolution(2 * channels, channels)

    def forward(self, lr: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Join (N, C, H, W) and (N, C, 2H, 2W) into (N, C, 2H, 2W)."""
        lacking_in_lr = functional.relu(self.down_a(reference)) - lr
        lacking_in_reference = lr - functional.relu(self.down_b(reference))
        a = functional.relu(self.up_a(lacking_in_lr)) + reference
        b = functional.relu(self.up_b(lacking_in_reference + lr))
        return functional.relu(self.join(torch.cat([a, b], dim=1)))


def _doubling(channels: int) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)
    nn.init.normal_(layer.weight, std=0.5 * (2 / (9 * channels)) ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each channel's mean and deviation, (N, C, 1, 1) each."""
    variance, mean = torch.var_mean(features, dim=(2, 3), correction=0, keepdim=True)
    return mean, (variance + _EPS).sqrt()
