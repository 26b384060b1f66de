"""Degradation of HR images to synthetic LR images, as a fast scan of the same field would show.

Stages, in the order of the physics: beam spot (Gaussian), line jitter, coarse pixels (area mean),
scan lag (exponential along x), charging (dark tails behind bright areas), tone (gain, gamma,
offset), gain errors of each line and slow drift, shot and detector noise (variance rising with
grey), 8-bit rounding. Batched in torch on the images' device; every draw comes from the generator
that is passed in, a CPU one, so that a seed gives the same picture on every device.

Source: the effects and their order are those of Reimer, *Scanning Electron Microscopy*, 2nd ed.
(Springer 1998), chapters 2 (spot), 3 (charging), 4 and 5 (signal, noise, detector bandwidth).
"""

import math
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from training.config.degradation import DegradationConfig

SPOT_RADIUS_PX = 8
LAG_TAPS = 8
CHARGING_REACH = 4.0
"""Length of the charging kernel in decay lengths: e^-4 of the tail is cut off."""

DRIFT_SIGMA_ROWS = 16.0
"""Gaussian that smooths the drift over the rows; it varies over some 40 rows, a sixth of a tile."""


def _zero() -> torch.Tensor:
    return torch.zeros(1)


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Drawn degradation of each image of a batch; every tensor is (N,) float32.

    The fields with a default may also be (1,), for the whole batch.

    Attributes:
        spot_sigma_px: Standard deviation of the beam spot in HR pixels.
        lag_decay: Factor from one LR pixel to the next in the exponential tail, in [0, 1).
        gain: Factor of the tone curve.
        offset_grey: Offset of the tone curve in grey levels.
        gamma: Exponent of the tone curve on [0, 1].
        noise_var_base: a of the noise variance a + b * grey.
        noise_var_slope: b of the noise variance a + b * grey.
        line_jitter_px: Standard deviation of each line's shift along x in LR pixels.
        charging_strength: Share of the grey by which a pixel is below the tail that is subtracted.
        charging_length_px: Decay length of that tail along x in LR pixels.
        line_gain_sigma: Relative standard deviation of each line's own gain.
        drift_sigma: Relative standard deviation of the slow drift over the lines.
        lag_centred: Whether the mean delay of the lag, d / (1 - d) LR pixels, is taken out.
    """

    spot_sigma_px: torch.Tensor
    lag_decay: torch.Tensor
    gain: torch.Tensor
    offset_grey: torch.Tensor
    gamma: torch.Tensor
    noise_var_base: torch.Tensor
    noise_var_slope: torch.Tensor
    line_jitter_px: torch.Tensor = field(default_factory=_zero)
    charging_strength: torch.Tensor = field(default_factory=_zero)
    charging_length_px: torch.Tensor = field(default_factory=_zero)
    line_gain_sigma: torch.Tensor = field(default_factory=_zero)
    drift_sigma: torch.Tensor = field(default_factory=_zero)
    lag_centred: bool = False


def draw_degradation(
    config: DegradationConfig, *, count: int, generator: torch.Generator
) -> Degradation:
    """Draw `count` degradations, uniformly and independently from the recipe's ranges."""

    def draw(bounds: tuple[float, float]) -> torch.Tensor:
        low, high = bounds
        return low + (high - low) * torch.rand(count, generator=generator)

    def draw_if_open(bounds: tuple[float, float]) -> torch.Tensor:
        # These fields came later: a fixed value takes no number from the generator, so that
        # recipes without them make the pictures that they have always made.
        return torch.full((count,), bounds[0]) if bounds[0] == bounds[1] else draw(bounds)

    return Degradation(
        spot_sigma_px=draw(config.spot_sigma_px),
        lag_decay=draw(config.lag_decay),
        gain=draw(config.gain),
        offset_grey=draw(config.offset_grey),
        gamma=draw(config.gamma),
        noise_var_base=draw(config.noise_var_base),
        noise_var_slope=draw(config.noise_var_slope),
        line_jitter_px=draw_if_open(config.line_jitter_px),
        charging_strength=draw_if_open(config.charging_strength),
        charging_length_px=draw_if_open(config.charging_length_px),
        line_gain_sigma=draw_if_open(config.line_gain_sigma),
        drift_sigma=draw_if_open(config.drift_sigma),
        lag_centred=config.lag_centred,
    )


def degrade(
    hr: torch.Tensor, degradation: Degradation, *, scale: int, generator: torch.Generator
) -> torch.Tensor:
    """Make the LR version of each image.

    Args:
        hr: (N, 1, s*H, s*W) float32 in [0, 1], on any device.
        degradation: Draws, one for each image.
        scale: s; both sides of `hr` must be multiples of it.
        generator: Source of noise, jitter and line errors; a CPU generator.

    Returns:
        (N, 1, H, W) float32 in [0, 1], on the 256 grey levels k / 255.

    Raises:
        ValueError: The size is not a multiple of the scale, or the counts differ.
    """
    count, _, height, width = hr.shape
    if height % scale or width % scale:
        raise ValueError(f"HR size {height}x{width} is not a multiple of the scale {scale}")
    if degradation.gain.shape[0] != count:
        raise ValueError(f"{count} images but {degradation.gain.shape[0]} degradations")
    # Drawn first, so that the noise is the same for any settings of the other stages.
    noise = torch.randn((count, 1, height // scale, width // scale), generator=generator)
    coarse = scan(hr, degradation, scale=scale, generator=generator)
    grey = 255.0 * apply_tone(coarse, degradation).clamp(0.0, 1.0)
    rows = _line_gain(degradation, shape=(count, height // scale), generator=generator)
    if rows is not None:
        grey = grey * rows.to(hr.device)
    variance = (
        _per_image(degradation.noise_var_base, hr)
        + _per_image(degradation.noise_var_slope, hr) * grey
    )
    noisy = grey + variance.sqrt() * noise.to(hr.device)
    return noisy.round().clamp(0.0, 255.0) / 255.0


def scan(
    hr: torch.Tensor, degradation: Degradation, *, scale: int, generator: torch.Generator
) -> torch.Tensor:
    """Apply the stages before the tone: spot, line jitter, coarse pixels, lag, charging.

    Args:
        hr: (N, 1, s*H, s*W) float32 in [0, 1].
        degradation: Draws, one for each image.
        scale: s.
        generator: Source of the jitter; asked only where there is jitter.

    Returns:
        (N, 1, H, W) float32 in [0, 1], not rounded.
    """
    blurred = _blur(hr, degradation.spot_sigma_px.to(hr.device))
    shift_px = _line_shift(degradation, shape=hr.shape, scale=scale, generator=generator)
    if shift_px is None:
        coarse = functional.avg_pool2d(blurred, scale)
    else:
        # Lines are shifted between the two halves of the area mean, on the finer columns: there
        # interpolation costs no sharpness that would show on the LR grid.
        lines = functional.avg_pool2d(blurred, (scale, 1))
        coarse = functional.avg_pool2d(_shift_rows(lines, shift_px.to(hr.device)), (1, scale))
    lagged = _lag(coarse, degradation.lag_decay.to(hr.device))
    if float(degradation.charging_strength.max()) > 0:
        lagged = _charge(lagged, degradation)
    return lagged


def apply_tone(coarse: torch.Tensor, degradation: Degradation) -> torch.Tensor:
    """Return gain * coarse^gamma + offset, (N, 1, H, W), neither clipped nor rounded."""
    power = coarse.clamp(0.0, 1.0) ** _per_image(degradation.gamma, coarse)
    offset = _per_image(degradation.offset_grey, coarse) / 255.0
    return _per_image(degradation.gain, coarse) * power + offset


def _per_image(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.to(like.device).view(-1, 1, 1, 1)


def _blur(images: torch.Tensor, sigma_px: torch.Tensor) -> torch.Tensor:
    """Blur each image with its own Gaussian; the border is replicated."""
    taps = torch.arange(
        -SPOT_RADIUS_PX, SPOT_RADIUS_PX + 1, dtype=torch.float32, device=images.device
    )
    # A sigma of zero must give a delta, not a division by zero.
    rows = torch.exp(-0.5 * (taps / sigma_px.clamp_min(1e-3)[:, None]) ** 2)
    rows = rows / rows.sum(dim=1, keepdim=True)
    count = images.shape[0]
    stacked = images.transpose(0, 1)
    padded = functional.pad(stacked, (SPOT_RADIUS_PX,) * 4, mode="replicate")
    across = functional.conv2d(padded, rows.view(count, 1, 1, -1), groups=count)
    return functional.conv2d(across, rows.view(count, 1, -1, 1), groups=count).transpose(0, 1)


def _line_shift(
    degradation: Degradation, *, shape: torch.Size, scale: int, generator: torch.Generator
) -> torch.Tensor | None:
    """Return each LR line's shift to the right in HR pixels, (N, H); None if all are 0."""
    count, height = shape[0], shape[2] // scale
    shift_px = torch.zeros(count, height)
    if float(degradation.line_jitter_px.max()) > 0:
        jitter = torch.randn(count, height, generator=generator)
        shift_px = scale * degradation.line_jitter_px.view(-1, 1) * jitter
    if degradation.lag_centred:
        decay = degradation.lag_decay.view(-1, 1)
        shift_px = shift_px - scale * decay / (1 - decay)
    return shift_px if bool(shift_px.any()) else None


def _shift_rows(images: torch.Tensor, shift_px: torch.Tensor) -> torch.Tensor:
    """Move each row to the right by its own shift, with linear interpolation."""
    width = images.shape[-1]
    columns = torch.arange(width, dtype=torch.float32, device=images.device)
    place = (columns - shift_px[:, None, :, None]).clamp(0, width - 1)
    left = place.floor()
    share = place - left
    index = left.long()
    near = images.gather(3, index)
    far = images.gather(3, (index + 1).clamp_max(width - 1))
    return near + share * (far - near)


def _lag(images: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
    """Add a tail to the right of each pixel: out[x] = (1 - d) * sum over k of d^k * in[x - k]."""
    return _smear(images, decay, taps=LAG_TAPS)


def _smear(images: torch.Tensor, decay: torch.Tensor, *, taps: int) -> torch.Tensor:
    # Oldest tap first, because convolution layers correlate.
    powers = torch.arange(taps - 1, -1, -1, dtype=torch.float32, device=images.device)
    rows = decay[:, None] ** powers
    rows = rows / rows.sum(dim=1, keepdim=True)
    count = images.shape[0]
    rows = rows.expand(count, taps)
    padded = functional.pad(images.transpose(0, 1), (taps - 1, 0, 0, 0), mode="replicate")
    return functional.conv2d(padded, rows.view(count, 1, 1, -1), groups=count).transpose(0, 1)


def _charge(images: torch.Tensor, degradation: Degradation) -> torch.Tensor:
    """Darken the pixels to the right of bright areas.

    An exponential tail carries the brightness to the right. Where the image is darker than the
    tail, `charging_strength` times the difference is subtracted. Flat areas keep their grey, and no
    reference level is needed.
    """
    length_px = degradation.charging_length_px.clamp_min(0.1)
    taps = math.ceil(CHARGING_REACH * float(length_px.max())) + 1
    tail = _smear(images, torch.exp(-1.0 / length_px).to(images.device), taps=taps)
    lack = (tail - images).clamp_min(0.0)
    return (images - _per_image(degradation.charging_strength, images) * lack).clamp_min(0.0)


def _line_gain(
    degradation: Degradation, *, shape: tuple[int, int], generator: torch.Generator
) -> torch.Tensor | None:
    """Return each line's gain from its error and the drift, (N, 1, H, 1); None if all are 1."""
    if float(degradation.line_gain_sigma.max()) <= 0 and float(degradation.drift_sigma.max()) <= 0:
        return None
    count, height = shape
    own = degradation.line_gain_sigma.view(-1, 1) * torch.randn(shape, generator=generator)
    radius = math.ceil(3 * DRIFT_SIGMA_ROWS)
    taps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (taps / DRIFT_SIGMA_ROWS) ** 2)
    # Of unit energy, so that white noise of unit variance keeps it.
    kernel = kernel / kernel.square().sum().sqrt()
    white = torch.randn(count, 1, height + 2 * radius, generator=generator)
    slow = functional.conv1d(white, kernel.view(1, 1, -1))[:, 0]
    drift = degradation.drift_sigma.view(-1, 1) * slow
    return (1 + own + drift).clamp_min(0.0).view(count, 1, height, 1)
