"""Bicubic enlargement, and fits of gain, offset and blur to a reference.

The fits use the reference, which is unknown in production: they favour the baselines.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from models.blocks import BicubicUpsample
from training.ground.quality import Grey, psnr

GAUSSIAN_SIGMAS_PX = tuple(0.25 * step for step in range(17))
PATIENCE = 4


@torch.no_grad()
def bicubic(lr: NDArray[np.uint8], *, scale: int) -> NDArray[np.float32]:
    """Enlarge (H, W) grey levels with Keys' cubic (a = -0.5); not rounded, cut to 0..255."""
    image = torch.from_numpy(lr.copy())[None, None].float()
    return BicubicUpsample(scale=scale)(image)[0, 0].clamp(0.0, 255.0).numpy()


def fit_gain_offset(image: Grey, reference: Grey) -> NDArray[np.float64]:
    """Return gain * image + offset, the least-squares fit to the reference."""
    x, y = image.astype(np.float64), reference.astype(np.float64)
    variance = x.var()
    gain = ((x - x.mean()) * (y - y.mean())).mean() / variance if variance > 0 else 0.0
    return gain * (x - x.mean()) + y.mean()


def fit_gaussian(image: Grey, reference: Grey) -> tuple[NDArray[np.float64], float]:
    """Blur with the sigma that fits best after gain and offset.

    Returns:
        The blurred and fitted image, and the sigma in pixels; zero (no blur) is among those tried.
    """
    best, best_sigma_px, best_psnr = fit_gain_offset(image, reference), 0.0, -np.inf
    without_gain = 0
    for sigma_px in GAUSSIAN_SIGMAS_PX:
        blurred = ndimage.gaussian_filter(image.astype(np.float64), sigma_px)
        fitted = fit_gain_offset(blurred, reference)
        score = psnr(fitted, reference)
        if score > best_psnr:
            best, best_sigma_px, best_psnr = fitted, sigma_px, score
            without_gain = 0
        else:
            without_gain += 1
            # The score over sigma has one peak; a pixel of blur past it, nothing better comes.
            if without_gain == PATIENCE:
                break
    return best, best_sigma_px
