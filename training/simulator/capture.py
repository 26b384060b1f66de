"""Two capture modes of one tool: from secondary electrons to a grey image.

*Review* is slow and fine, *inspection* fast and coarse. The beam has a spot, its lines jitter, the
detector lags along the scan, pixels integrate, the tone curve maps electrons to grey, and quanta
and amplifier make noise. Both look at the same signal from `emission`, so that their images of one
scene are aligned: the constant delay of the lag is taken out, as a tool's calibration does.

Levels and noise follow measured images: openEBL's run 2025-05 for inspection (median 72; variance
8.6 + 0.31 grey) and run 2026-02 for review (median 45; sigma 3.2 by second differences on flats,
which JPEG may have lowered).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from training.simulator.layout import Canvas, Floats
from training.simulator.scan_faults import charging_tails, frame_drift, line_gains

QUANTISATION_VARIANCE = 1 / 12


@dataclass(frozen=True)
class CaptureMode:
    """Settings of one way to scan.

    Attributes:
        name: Name in the index.
        spot_sigma_nm: Standard deviation of the beam's Gaussian spot.
        lag_px: Decay length of the detector's response along x, in pixels of this mode.
        jitter_px: Standard deviation of a line's start along x, in pixels of this mode.
        tone_offset: Grey without signal ("brightness").
        tone_gain: Grey per unit of signal ("contrast").
        tone_gamma: Exponent of the signal.
        noise_floor: Grey-level variance at black, quantisation to 8 bits included.
        noise_per_grey: Growth of the variance with grey: the grey value of one quantum.
        line_gain_sigma: Standard deviation of a line's gain, relative.
        drift_sigma: Standard deviation of the slow drift of brightness down the frame, relative.
        tail_strength: Charging: loss of signal after a bright feature, relative, per unit of its
            excess over the line's mean (`scan_faults.charging_tails`).
        tail_px: Range of the tails' decay length, drawn once a frame, in pixels of this mode.
    """

    name: str
    spot_sigma_nm: float
    lag_px: float
    jitter_px: float
    tone_offset: float
    tone_gain: float
    tone_gamma: float
    noise_floor: float
    noise_per_grey: float
    line_gain_sigma: float = 0.0
    drift_sigma: float = 0.0
    tail_strength: float = 0.0
    tail_px: tuple[float, float] = (20.0, 60.0)

    def tone(self, signal: Floats) -> Floats:
        """Map the signal (1 on flat oxide) to grey, not clipped."""
        return self.tone_offset + self.tone_gain * signal**self.tone_gamma

    def noise_variance(self, grey: Floats) -> Floats:
        """Return the variance in an 8-bit image at a mean grey."""
        return self.noise_floor + self.noise_per_grey * grey


REVIEW = CaptureMode(
    name="review",
    spot_sigma_nm=1.3,
    lag_px=0.0,
    jitter_px=0.05,
    tone_offset=0.5,
    tone_gain=39.0,
    tone_gamma=1.0,
    noise_floor=0.3,
    noise_per_grey=0.26,
)

STEADY_INSPECTION = CaptureMode(
    name="inspection",
    spot_sigma_nm=3.2,
    lag_px=0.35,
    jitter_px=0.12,
    tone_offset=6.0,
    tone_gain=59.0,
    tone_gamma=0.97,
    noise_floor=8.6,
    noise_per_grey=0.31,
)
"""Inspection without the faults of a whole frame."""

INSPECTION = replace(STEADY_INSPECTION, line_gain_sigma=0.01, drift_sigma=0.02, tail_strength=0.08)
"""Inspection as the benchmark's LR tiles are scanned."""

NEAR_REVIEW = replace(
    REVIEW, name="near_review", spot_sigma_nm=2.4, noise_floor=2.0, noise_per_grey=0.4
)
"""A coarse scan with little domain gap: the tone of review; only spot, pixel and dose differ."""

TOP_REVIEW = replace(REVIEW, name="top_review", tone_offset=130.0, tone_gain=-30.0, noise_floor=1.0)
"""Review of another layer: bright materials are dark in it, as in the odd pictures of the
thesis's CuCMP set ("CMPTop")."""

TOP_NEAR_REVIEW = replace(NEAR_REVIEW, name="top_near_review", tone_offset=130.0, tone_gain=-30.0)
"""A coarse scan of that layer."""

MODES = (INSPECTION, REVIEW, NEAR_REVIEW, TOP_REVIEW, TOP_NEAR_REVIEW)


def capture(
    signal: Floats,
    canvas: Canvas,
    mode: CaptureMode,
    rng: np.random.Generator,
    *,
    fine_per_pixel: int,
) -> Floats:
    """Scan a tile.

    Args:
        signal: (rows, columns) on the canvas, from `secondary_electrons`.
        canvas: Grid of the signal.
        mode: Scan mode.
        rng: Source of jitter and noise. The number of draws does not depend on the signal.
        fine_per_pixel: Fine pixels per image pixel along each side; divides the tile.

    Returns:
        Grey, (tile_px / fine_per_pixel) squared, clipped to 0..255 and not yet rounded.
    """
    grey = noise_free(signal, canvas, mode, rng, fine_per_pixel=fine_per_pixel)
    return add_noise(grey, mode, rng)


def add_noise(grey: Floats, mode: CaptureMode, rng: np.random.Generator) -> Floats:
    """Return a noise-free picture with the mode's noise, clipped to 0..255 and not rounded."""
    return np.clip(grey + _noise(grey, mode, rng), 0.0, 255.0)


def noise_free(
    signal: Floats,
    canvas: Canvas,
    mode: CaptureMode,
    rng: np.random.Generator,
    *,
    fine_per_pixel: int,
) -> Floats:
    """Scan a tile without noise: spot, jitter, lag, integration, faults of the frame and tone.

    See `capture`.
    """
    (for_faults,) = rng.spawn(1)
    image = ndimage.gaussian_filter(signal, mode.spot_sigma_nm / canvas.pixel_nm, mode="nearest")
    lines = canvas.tile_px // fine_per_pixel
    shift_px = mode.jitter_px * fine_per_pixel * rng.standard_normal(lines)
    image = _shift_lines(image[canvas.inner], np.repeat(shift_px, fine_per_pixel))
    image = detector_lag(image, mode.lag_px * fine_per_pixel)[:, canvas.inner]
    pixels = image.reshape(lines, fine_per_pixel, lines, fine_per_pixel).mean(axis=(1, 3))
    return mode.tone(_with_faults(pixels, mode, for_faults))


def _with_faults(pixels: Floats, mode: CaptureMode, rng: np.random.Generator) -> Floats:
    length_px = rng.uniform(*mode.tail_px)
    gains = line_gains(len(pixels), mode.line_gain_sigma, rng)
    drift = frame_drift(len(pixels), mode.drift_sigma, rng)
    if mode.tail_strength:
        pixels = charging_tails(pixels, mode.tail_strength, length_px)
    return pixels * gains * drift


def detector_lag(image: Floats, length_px: float) -> Floats:
    """Smear an image along x by an exponential tail to the right whose mean delay is taken out.

    Scintillator and amplifier answer with exp(-t/tau), t being x over the scan speed (Reimer 1998,
    section 5.2.2, on detector bandwidth at fast scans). Rows do not mix.
    """
    if length_px == 0:
        return image
    reach_px = math.ceil(10 * length_px) + 1
    bounds_px = np.arange(-reach_px, reach_px + 2) - 0.5
    # The answer's integral, begun one decay length early, which is its mean delay.
    answered = -np.expm1(-np.maximum(bounds_px / length_px + 1, 0.0))
    kernel = np.diff(answered) / (answered[-1] - answered[0])
    return ndimage.convolve1d(image, kernel, axis=1, mode="nearest")


def _shift_lines(image: Floats, shift_px: Floats) -> Floats:
    """Move each row along x by its own fraction of a pixel, linearly interpolated."""
    columns = np.arange(image.shape[1], dtype=np.float64)
    return np.stack(
        [
            np.interp(columns - shift, columns, row)
            for row, shift in zip(image, shift_px, strict=True)
        ]
    )


def _noise(grey: Floats, mode: CaptureMode, rng: np.random.Generator) -> Floats:
    """Draw quantum and amplifier noise, white, with the mode's variance before rounding.

    Quanta are Poisson, drawn by the expansion of Cornish and Fisher (1938) to its skewness term:
    it needs one normal number a pixel regardless of its grey, so that a seed gives the same picture
    on every processor, where a rejection sampler would run out of step after one rounding.
    """
    z, amplifier = rng.standard_normal((2, *grey.shape))
    quanta = np.maximum(grey, 0.0) / mode.noise_per_grey
    shot = mode.noise_per_grey * (np.sqrt(quanta) * z + (z**2 - 1) / 6)
    return shot + np.sqrt(max(mode.noise_floor - QUANTISATION_VARIANCE, 0.0)) * amplifier
