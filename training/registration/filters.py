"""Band-passes of registration, and the share of a picture's noise that passes them.

The noise of a fast scan is white on the LR grid. Then the shift of least variance is that of the
best correlation of the LR picture, not low-passed, with an HR picture that is as blurred as LR
(the matched filter; Kay 1993, "Estimation Theory", chapter 7). Phase correlation, which gives every
frequency the same weight, was several times less accurate on blank and granular films. Both
pictures lose their slow background, in which the drift and the charging of the fast scan lie.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.ground.baselines import bicubic
from training.ground.quality import noise_sigma

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]

BLUR_LR_PX = 0.85
"""Standard deviation of the blur that LR has more than HR: pixel, spot and lag of the simulator's
inspection mode are 0.84 LR px together."""

BACKGROUND_LR_PX = 4.0
"""Standard deviation of the Gaussian mean that is subtracted."""


def enlarged(lr: Grey, scale: int) -> Floats:
    """Return the LR picture on the HR grid, by the bicubic enlargement that every method uses."""
    return bicubic(lr, scale=scale)


def sharp_band(picture: NDArray[np.uint8] | Floats, scale: int) -> Floats:
    """Remove the background of a picture on the HR grid; (H, W), grey levels."""
    grey = picture.astype(np.float32)
    return grey - gaussian(grey, BACKGROUND_LR_PX * scale)


def blurred_band(picture: NDArray[np.uint8] | Floats, scale: int) -> Floats:
    """Blur a picture on the HR grid to LR's resolution, and remove its background."""
    grey = picture.astype(np.float32)
    return gaussian(grey, BLUR_LR_PX * scale) - gaussian(grey, BACKGROUND_LR_PX * scale)


def gaussian(grey: Floats, sigma_px: float) -> Floats:
    """Blur a picture; its border reflects."""
    return np.asarray(ndimage.gaussian_filter(grey, sigma_px), dtype=np.float32)


def lr_noise_variance(lr: Grey, scale: int) -> float:
    """Estimate the variance that LR's noise leaves in `blurred_band` of the enlarged LR."""
    return _lr_noise_gain(scale) * noise_sigma(lr) ** 2


def hr_noise_variance(hr: Grey, scale: int) -> float:
    """Estimate the variance that HR's noise leaves in `blurred_band` of HR."""
    return _hr_noise_gain(scale) * noise_sigma(hr) ** 2


@lru_cache(maxsize=8)
def enlargement_noise_gain(scale: int) -> float:
    """Return the variance that unit white noise on the LR grid has in the sharp band of u.

    It is less than 1, as the enlargement averages between pixels, while the noise at low
    frequencies, which the shift is found from, stays the same.
    """
    return _variance(sharp_band(_enlarged_impulse(scale), scale)) / scale**2


@lru_cache(maxsize=8)
def _lr_noise_gain(scale: int) -> float:
    """Return the variance that unit white noise on the LR grid leaves in the blurred band of u."""
    return _variance(blurred_band(_enlarged_impulse(scale), scale)) / scale**2


def _enlarged_impulse(scale: int) -> Floats:
    side = 2 * int(4 * BACKGROUND_LR_PX) + 9
    impulse = np.zeros((side, side), dtype=np.uint8)
    impulse[side // 2, side // 2] = 200
    # The cubic undershoots, and `bicubic` cuts negative greys: an impulse on a pedestal.
    pedestal = np.uint8(50)
    return (enlarged(impulse + pedestal, scale) - pedestal) / 200.0


def _variance(response: Floats) -> float:
    """Return the variance of unit white noise after a filter, given its impulse response."""
    return float(np.sum(response.astype(np.float64) ** 2))


@lru_cache(maxsize=8)
def _hr_noise_gain(scale: int) -> float:
    side = 2 * int(4 * BACKGROUND_LR_PX * scale) + 9
    impulse = np.zeros((side, side), dtype=np.float32)
    impulse[side // 2, side // 2] = 1.0
    return _variance(blurred_band(impulse, scale))
