"""Image quality against a reference: PSNR, SSIM, GMSD, local correlation; noise of one image.

All take grey images as (H, W) arrays in grey levels (0 to 255) and compute in float64.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Grey = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]
PEAK_GREY = 255.0


def psnr(image: Grey, reference: Grey) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 255; infinity for equal images."""
    _check(image, reference)
    error = float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(PEAK_GREY**2 / error))


def ssim(image: Grey, reference: Grey) -> float:
    """Mean structural similarity, at most 1.

    Gaussian window of sigma 1.5 over 11x11 pixels, K1 = 0.01, K2 = 0.03, population covariances;
    the outer 5 pixels, where the window leaves the image, are left out.

    Source: Wang et al. 2004, "Image quality assessment".
    """
    _check(image, reference)
    if min(image.shape) < 11:
        raise ValueError(f"SSIM needs images of at least 11x11 pixels, got {image.shape}")
    x, y = image.astype(np.float64), reference.astype(np.float64)

    def window(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.gaussian_filter(values, 1.5, radius=5)

    mean_x, mean_y = window(x), window(y)
    var_x = window(x * x) - mean_x**2
    var_y = window(y * y) - mean_y**2
    covariance = window(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * PEAK_GREY) ** 2, (0.03 * PEAK_GREY) ** 2
    score = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return float(score[5:-5, 5:-5].mean())


def gmsd(image: Grey, reference: Grey) -> float:
    """Gradient magnitude similarity deviation: 0 for equal gradients, larger for uneven errors.

    Both images are averaged over 2x2 pixels first. Gradients are Prewitt's, the constant is 170
    for greys of 0 to 255. The border of one averaged pixel, where a gradient leaves the image, is
    left out.

    Source: Xue et al. 2014, "Gradient magnitude similarity deviation", eq. 2 to 6.
    """
    _check(image, reference)
    if min(image.shape) < 6:
        raise ValueError(f"GMSD needs images of at least 6x6 pixels, got {image.shape}")
    first, second = (_prewitt_magnitude(values) for values in (image, reference))
    similarity = (2 * first * second + 170.0) / (first**2 + second**2 + 170.0)
    return float(similarity.std())


def local_correlation(
    image: Grey,
    reference: Grey,
    *,
    window_sigma_px: float = 6.0,
    low_pass_sigma_px: float = 2.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlate two images around every pixel, ignoring local gain and offset.

    Both are low-passed first, so that the comparison is of structure, not of grain.

    Returns:
        (H, W) correlation in [-1, 1] under a Gaussian window, and (H, W) local deviation of the
        reference in grey levels, which says where there is structure to compare.
    """
    _check(image, reference)
    x = ndimage.gaussian_filter(image.astype(np.float64), low_pass_sigma_px)
    y = ndimage.gaussian_filter(reference.astype(np.float64), low_pass_sigma_px)

    def window(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.gaussian_filter(values, window_sigma_px)

    mean_x, mean_y = window(x), window(y)
    var_x = np.maximum(window(x * x) - mean_x**2, 0.0)
    var_y = np.maximum(window(y * y) - mean_y**2, 0.0)
    covariance = window(x * y) - mean_x * mean_y
    return covariance / np.sqrt(var_x * var_y + 1e-6), np.sqrt(var_y)


def noise_sigma(image: Grey) -> float:
    """Estimate the standard deviation of white noise in grey levels.

    The median of a second-difference response ignores edges, which are few.

    Source: mask of Immerkaer 1996; median absolute value instead of the mean, as Donoho 1995.
    """
    mask = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    response = ndimage.convolve(image.astype(np.float64), mask)[1:-1, 1:-1]
    # The mask's weights have a root sum of squares of 6; 0.6745 is the median of |N(0, 1)|.
    return float(np.median(np.abs(response)) / 0.6745 / 6.0)


def _prewitt_magnitude(image: Grey) -> NDArray[np.float64]:
    """Return the gradient magnitude of an image averaged over 2x2 pixels, without its border."""
    height, width = (side // 2 for side in image.shape)
    blocks = image[: 2 * height, : 2 * width].astype(np.float64).reshape(height, 2, width, 2)
    coarse = blocks.mean(axis=(1, 3))
    # Prewitt's kernels have weights of 1/3; SciPy's have 1.
    across, down = (ndimage.prewitt(coarse, axis=axis) / 3 for axis in (1, 0))
    return np.hypot(across, down)[1:-1, 1:-1]


def _check(image: Grey, reference: Grey) -> None:
    if image.shape != reference.shape or image.ndim != 2:
        raise ValueError(
            f"two (H, W) images of one size needed, got {image.shape} and {reference.shape}"
        )
