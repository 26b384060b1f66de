"""Conversion of an SR picture to the LR grid, and to the sharpness and tone of the LR tile."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BLUR_SIGMAS_PX = (0.0, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3)
PRIOR_GREY = 2.0
"""Contrast of a prior on the gain; for structure far below it, the gain stays near 1."""

Floats = NDArray[np.float64]


def area_mean(image: NDArray[np.uint8], shape: tuple[int, ...]) -> Floats:
    """Average an SR picture to the (h, w) pixels of its LR tile.

    Raises:
        ValueError: The sides are not multiples of the LR sides.
    """
    height, width = shape
    scale = image.shape[0] // height
    if image.shape != (scale * height, scale * width):
        raise ValueError(f"the picture is {image.shape}, not a multiple of the LR tile {shape}")
    return image.reshape(height, scale, width, scale).mean(axis=(1, 3), dtype=np.float64)


def as_seen(other: Floats, shown: Floats) -> Floats:
    """Fit the sharpness, gain and offset of a picture to another one of the same scene.

    The least-squares fit has one blur, one gain and one offset for the whole picture, so that
    locally missing structure stays missing.
    """
    best, least = other, np.inf
    for sigma_px in BLUR_SIGMAS_PX:
        blurred = ndimage.gaussian_filter(other, sigma_px) if sigma_px else other
        centred, target = blurred - blurred.mean(), shown - shown.mean()
        # The gain of structure, not of grain: the prior draws it to 1 where there is none.
        smooth = ndimage.gaussian_filter(centred, 1.0)
        prior = PRIOR_GREY**2 * smooth.size
        gain = ((smooth * target).sum() + prior) / ((smooth**2).sum() + prior)
        fitted = gain * centred + shown.mean()
        error = float(((fitted - shown) ** 2).mean())
        if error < least:
            best, least = fitted, error
    return best
