"""Estimation of the noise of a set of images: variance against grey on flat parts.

`estimation` uses it for the noise that a degradation adds; `planting` and `patches` use it to give
added structure the grain of its image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

SECOND_DIFFERENCE = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0])
"""Immerkær's mask. Its response to any sum of a function of x and a function of y is 0; it
multiplies the variance of white noise by 36."""

MASK_ENERGY = float((SECOND_DIFFERENCE**2).sum())
MEDIAN_PER_SIGMA = 0.6744897501960817
FLAT_SHARE = 0.5
"""Share of the pixels that counts as flat: those of least gradient after smoothing."""

MAX_IMAGES = 48
"""Greatest number of images in a measurement; hundreds would take minutes and gigabytes."""

BIN_GREY = 4.0
MIN_BIN_PX = 400
CLIP_SIGMAS = 3.0
"""Least distance of a grey bin from black and white; nearer bins have lost noise by clipping."""


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """White noise with variance base + slope * grey, in squared grey levels (0..255)."""

    base: float
    slope: float

    def variance(self, grey: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the variance at each grey value, same shape."""
        return self.base + self.slope * np.maximum(grey, 0.0)


@dataclass(frozen=True, kw_only=True)
class NoiseSamples:
    """Measured noise with one entry per grey bin, (K,) float64 each.

    Attributes:
        grey: Mean grey of the bin's flat pixels.
        variance: Noise variance there, grey levels squared.
        weight: Number of pixels behind it.
    """

    grey: NDArray[np.float64]
    variance: NDArray[np.float64]
    weight: NDArray[np.float64]


def measure_noise(images: Sequence[NDArray[np.uint8]], *, step_px: int = 1) -> NoiseSamples:
    """Measure the noise variance against grey on the flat parts of a set of images.

    Where the smoothed image has a small gradient, the second difference is almost only noise. Its
    median is robust against remaining structure. The selection of the pixels causes no bias,
    because the smoothed gradient and the second difference share almost no frequencies.

    Args:
        images: (H, W) uint8 each; sizes may differ.
        step_px: Step between the rows and columns of responses that are used, for speed.

    Returns:
        One entry for each bin of grey with enough pixels and clear of clipping; maybe none.

    Source: Immerkær, *Fast noise variance estimation*, CVIU 64 (1996), eq. 1 to 3; Donoho,
    *De-noising by soft-thresholding*, IEEE Trans. Inf. Theory 41 (1995), for the median; Foi et
    al., *Practical Poissonian-Gaussian noise modeling*, IEEE TIP 17 (2008), for the line in grey.
    """
    greys, responses = [], []
    for image in images:
        pixels = image.astype(np.float32)
        # Narrow, or a bright line would lend its grey to the trench next to it.
        smooth = ndimage.gaussian_filter(pixels, 1.0, mode="nearest")
        slope_y, slope_x = np.gradient(ndimage.gaussian_filter(smooth, 2.0, mode="nearest"))
        gradient = np.hypot(slope_y, slope_x)
        response = np.abs(ndimage.convolve(pixels, SECOND_DIFFERENCE.astype(np.float32)))
        inner = (slice(3, -3, step_px), slice(3, -3, step_px))
        flat = gradient[inner] <= np.quantile(gradient[inner], FLAT_SHARE)
        greys.append(smooth[inner][flat])
        responses.append(response[inner][flat])
    if not greys:
        raise ValueError("expected at least one image to measure noise on, got none")
    grey, response = np.concatenate(greys), np.concatenate(responses)
    edges = np.arange(0.0, 256.0 + BIN_GREY, BIN_GREY)
    place = np.digitize(grey, edges)
    samples = []
    for number in np.unique(place):
        inside = place == number
        count = int(inside.sum())
        if count < MIN_BIN_PX:
            continue
        sigma = _median_of_integers(response[inside]) / MEDIAN_PER_SIGMA / MASK_ENERGY**0.5
        mean = float(grey[inside].mean())
        if min(mean, 255.0 - mean) >= CLIP_SIGMAS * sigma:
            samples.append((mean, sigma**2, count))
    table = np.array(samples, dtype=np.float64).reshape(-1, 3)
    return NoiseSamples(grey=table[:, 0], variance=table[:, 1], weight=table[:, 2])


def fit_noise(samples: NoiseSamples) -> NoiseModel:
    """Fit base and slope, both at least 0, to the samples; without samples both are 0.

    The error of a measured variance is proportional to the variance. The weight of a sample is
    therefore its number of pixels over its squared variance. A Huber loss makes the fit robust
    against bins with texture.
    """
    if samples.grey.size == 0:
        return NoiseModel(base=0.0, slope=0.0)
    scale = np.maximum(samples.variance, 0.05)
    weight = np.sqrt(samples.weight / samples.weight.sum())

    def residual(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        base, slope = parameters
        return weight * (base + slope * samples.grey - samples.variance) / scale

    start = (0.5 * float(np.median(samples.variance)), 1e-3)
    fit = optimize.least_squares(
        residual, start, bounds=([0.0, 0.0], [np.inf, np.inf]), loss="huber", f_scale=0.02
    )
    return NoiseModel(base=float(fit.x[0]), slope=float(fit.x[1]))


def estimate_noise(images: Sequence[NDArray[np.uint8]], *, step_px: int = 1) -> NoiseModel:
    """Measure the noise of images and fit the model; it includes the rounding to 8 bits (1/12).

    Of many images, `MAX_IMAGES` evenly spaced ones are measured: more do not change the line.
    """
    every = -(-len(images) // MAX_IMAGES) or 1
    return fit_noise(measure_noise(images[::every], step_px=step_px))


def _median_of_integers(values: NDArray[np.float32]) -> float:
    """Return the median of rounded absolute values, interpolated as if they were not rounded.

    With little noise the responses take a few values only, and the plain median would jump.
    """
    middle = float(np.median(values))
    below = float((values < middle - 0.5).mean())
    here = float((np.abs(values - middle) <= 0.5).mean())
    if middle == 0:
        # Zero collects only the half interval up to 0.5, because these are absolute values.
        return 0.5 * 0.5 / here
    return middle - 0.5 + (0.5 - below) / here
