"""An SR picture as the LR grid sees it: averaged to pixels, in the tile's sharpness and tone."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BLUR_SIGMAS_PX = (0.0, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3)
PRIOR_GREY = 2.0
"""Structure below this does not decide the tone: the other picture is then taken as it is."""

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
    """Bring a picture to the sharpness, gain and offset of another one of the same scene.

    One blur, one gain and one offset for the whole picture, by least squares, so that what is
    missing at a place stays missing.
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
