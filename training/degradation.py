"""HR to synthetic LR: what a fast, coarse scan of the same field would have shown.

Stages, in the order of the physics: beam spot (Gaussian), coarse pixels (area mean), scan lag
(causal exponential along x), tone (gain, gamma, offset), shot and detector noise (variance rising
with grey), 8-bit rounding. Batched in torch; every draw comes from the generator that is passed in.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from training.config import DegradationConfig

SPOT_RADIUS_PX = 8
LAG_TAPS = 8


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """One drawn degradation for each image of a batch; every field is (N,) float32.

    Attributes:
        spot_sigma_px: Standard deviation of the beam spot in HR pixels.
        lag_decay: Factor from one LR pixel to the next in the exponential tail, in [0, 1).
        gain: Factor of the tone curve.
        offset_grey: Offset of the tone curve in grey levels.
        gamma: Exponent of the tone curve on [0, 1].
        noise_var_base: a of the noise variance a + b * grey.
        noise_var_slope: b of the noise variance a + b * grey.
    """

    spot_sigma_px: torch.Tensor
    lag_decay: torch.Tensor
    gain: torch.Tensor
    offset_grey: torch.Tensor
    gamma: torch.Tensor
    noise_var_base: torch.Tensor
    noise_var_slope: torch.Tensor


def draw_degradation(
    config: DegradationConfig, *, count: int, generator: torch.Generator
) -> Degradation:
    """Draw `count` degradations, uniformly and independently from the recipe's ranges."""

    def draw(bounds: tuple[float, float]) -> torch.Tensor:
        low, high = bounds
        return low + (high - low) * torch.rand(count, generator=generator)

    return Degradation(
        spot_sigma_px=draw(config.spot_sigma_px),
        lag_decay=draw(config.lag_decay),
        gain=draw(config.gain),
        offset_grey=draw(config.offset_grey),
        gamma=draw(config.gamma),
        noise_var_base=draw(config.noise_var_base),
        noise_var_slope=draw(config.noise_var_slope),
    )


def degrade(
    hr: torch.Tensor, degradation: Degradation, *, scale: int, generator: torch.Generator
) -> torch.Tensor:
    """Make the LR version of each image.

    Args:
        hr: (N, 1, s*H, s*W) float32 in [0, 1].
        degradation: One draw for each image.
        scale: s; both sides of `hr` must be multiples of it.
        generator: Source of the noise.

    Returns:
        (N, 1, H, W) float32 in [0, 1], on the 256 grey levels k / 255.

    Raises:
        ValueError: The size is no multiple of the scale, or the counts differ.
    """
    count, _, height, width = hr.shape
    if height % scale or width % scale:
        raise ValueError(f"HR size {height}x{width} is no multiple of the scale {scale}")
    if degradation.gain.shape[0] != count:
        raise ValueError(f"{count} images but {degradation.gain.shape[0]} degradations")
    blurred = _blur(hr, degradation.spot_sigma_px)
    coarse = functional.avg_pool2d(blurred, scale)
    lagged = _lag(coarse, degradation.lag_decay)
    toned = (
        _per_image(degradation.gain) * lagged.clamp(0.0, 1.0) ** _per_image(degradation.gamma)
        + _per_image(degradation.offset_grey) / 255.0
    )
    grey = 255.0 * toned.clamp(0.0, 1.0)
    variance = (
        _per_image(degradation.noise_var_base) + _per_image(degradation.noise_var_slope) * grey
    )
    noise = torch.randn(grey.shape, generator=generator)
    return (grey + variance.sqrt() * noise).round().clamp(0.0, 255.0) / 255.0


def _per_image(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1)


def _blur(images: torch.Tensor, sigma_px: torch.Tensor) -> torch.Tensor:
    """Blur each image with its own Gaussian; separable, border replicated."""
    taps = torch.arange(-SPOT_RADIUS_PX, SPOT_RADIUS_PX + 1, dtype=torch.float32)
    # A sigma of zero must give a delta, not a division by zero.
    rows = torch.exp(-0.5 * (taps / sigma_px.clamp_min(1e-3)[:, None]) ** 2)
    rows = rows / rows.sum(dim=1, keepdim=True)
    count = images.shape[0]
    stacked = images.transpose(0, 1)
    padded = functional.pad(stacked, (SPOT_RADIUS_PX,) * 4, mode="replicate")
    across = functional.conv2d(padded, rows.view(count, 1, 1, -1), groups=count)
    return functional.conv2d(across, rows.view(count, 1, -1, 1), groups=count).transpose(0, 1)


def _lag(images: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
    """Let each pixel drag a tail to the right: out[x] = (1 - d) * sum over k of d^k * in[x - k]."""
    # Oldest tap first, because convolution layers correlate.
    powers = torch.arange(LAG_TAPS - 1, -1, -1, dtype=torch.float32)
    rows = decay[:, None] ** powers
    rows = rows / rows.sum(dim=1, keepdim=True)
    count = images.shape[0]
    padded = functional.pad(images.transpose(0, 1), (LAG_TAPS - 1, 0, 0, 0), mode="replicate")
    return functional.conv2d(padded, rows.view(count, 1, 1, -1), groups=count).transpose(0, 1)
