"""Measurement of scan-line errors on images: each line's shift along x, and its gain."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.data.degradation.noise import NoiseModel

Floats = NDArray[np.float32]

MAX_SHIFT_NOISE_PX = 0.12
"""Greatest apparent line shift that noise may cause; images above it have too few upright edges."""

MIN_FLAT_SHARE = 0.3
SIGNIFICANCE = 3.0
"""Least ratio of a measured error to its standard error; smaller errors count as 0."""


def line_shift_variances(images: Sequence[Floats], noise: NoiseModel) -> NDArray[np.float64]:
    """Measure the variance of the shift along x between neighbouring lines, for each image.

    The shift between a line and the line above is a least-squares estimate over the whole line, in
    which rough edges average out. The variance over an image's lines is robust, and the noise's
    contribution is subtracted.

    Args:
        images: (h, w) float32 grey.
        noise: Noise of the images.

    Returns:
        One variance in px squared for each image with enough upright edges: twice the jitter's
        variance, plus what is left of roughness; may be slightly negative.

    Source: Lucas and Kanade, IJCAI 1981, eq. 5, along one axis.
    """
    variances = []
    for image in images:
        broad = ndimage.gaussian_filter(image, (2.0, 0.8))
        slope = np.gradient(broad, axis=1)
        slope = (slope[1:] + slope[:-1]) / 2
        level = (broad[1:] + broad[:-1]) / 2
        # Least squares for a shift and a gain of the line at once: one must not pass for the other.
        energy, shared = (slope**2).sum(axis=1), (slope * level).sum(axis=1)
        power = (level**2).sum(axis=1)
        determinant = np.maximum(energy * power - shared**2, 1e-6)
        weight = (power[:, None] * slope - shared[:, None] * level) / determinant[:, None]
        noise_var = 2 * (weight**2 * noise.variance(level)).sum(axis=1)
        if float(np.median(noise_var)) > MAX_SHIFT_NOISE_PX**2:
            continue
        shift = -(np.diff(image, axis=0) * weight).sum(axis=1)
        variances.append(_robust_variance(shift) - float(np.median(noise_var)))
    return np.array(variances, dtype=np.float64)


def estimate_jitter(
    lr: Sequence[Floats],
    without: Sequence[Floats],
    with_jitter: Sequence[Floats],
    noise: NoiseModel,
    *,
    jitter_px: float,
) -> float:
    """Estimate the line jitter of LR images, calibrated on degraded HR images.

    One set of degraded images has no jitter, the other a known jitter. Blur and smoothing reduce
    the measured jitter of all sets alike, so the calibration cancels them.

    Returns:
        Standard deviation of a line's own shift in LR px; 0 where it is not significant or a set
        has too few images with upright edges.
    """
    real, zero, known = (line_shift_variances(side, noise) for side in (lr, without, with_jitter))
    if min(real.size, zero.size, known.size) < 2:
        return 0.0
    excess = float(np.median(real) - np.median(zero))
    response = float(np.median(known) - np.median(zero)) / jitter_px**2
    error = float(np.hypot(_error_of_median(real), _error_of_median(zero)))
    if response <= 0 or excess <= SIGNIFICANCE * error:
        return 0.0
    return float(np.sqrt(excess / response))


def line_gain_variances(images: Sequence[Floats], noise: NoiseModel) -> NDArray[np.float64]:
    """Measure the relative variance of the lines' gain on flat parts, for each image.

    Args:
        images: (h, w) float32 grey.
        noise: Noise of the images.

    Returns:
        One relative variance (of gain) for each image that is flat enough, noise taken off; may be
        slightly negative.
    """
    variances = []
    for image in images:
        smooth = ndimage.gaussian_filter(image, 2.0)
        slope_y, slope_x = np.gradient(ndimage.gaussian_filter(smooth, 2.0))
        steep = np.hypot(slope_y, slope_x)
        flat = (steep <= np.quantile(steep, 0.5)).astype(np.float32)
        triple = flat[:-2] * flat[1:-1] * flat[2:]
        used = triple.sum(axis=1)
        lines = used >= MIN_FLAT_SHARE * image.shape[1]
        if int(lines.sum()) < 16:
            continue
        bend = image[1:-1] - (image[:-2] + image[2:]) / 2
        used, triple, bend = used[lines], triple[lines], bend[lines]
        grey = (triple * smooth[1:-1][lines]).sum(axis=1) / used
        jump = (triple * bend).sum(axis=1) / used / np.maximum(grey, 1.0)
        noise_var = 1.5 * noise.variance(grey) / used / np.maximum(grey, 1.0) ** 2
        # The line itself counts once, each neighbour a quarter.
        variances.append((_robust_variance(jump) - float(np.median(noise_var))) / 1.5)
    return np.array(variances, dtype=np.float64)


def estimate_line_gain(
    lr: Sequence[Floats], degraded: Sequence[Floats], noise: NoiseModel
) -> float:
    """Estimate the relative gain error of LR lines, by comparison with degraded HR images."""
    real, without = (line_gain_variances(side, noise) for side in (lr, degraded))
    if real.size < 2 or without.size < 2:
        return 0.0
    variance = float(np.median(real) - np.median(without))
    error = float(np.hypot(_error_of_median(real), _error_of_median(without)))
    return float(np.sqrt(variance)) if variance > SIGNIFICANCE * error else 0.0


def _robust_variance(values: NDArray[np.floating]) -> float:
    middle = np.median(values)
    return float(np.median(np.abs(values - middle)) / 0.6744897501960817) ** 2


def _error_of_median(values: NDArray[np.float64]) -> float:
    """Return the standard error of the median of a few values, robustly."""
    spread = np.median(np.abs(values - np.median(values))) / 0.6744897501960817
    return float(1.2533 * spread / np.sqrt(values.size))
