"""Small fixed filters that several losses share, on batches (N, C, H, W)."""

import math

import torch
from torch.nn import functional


def gaussian_taps(sigma_px: float) -> torch.Tensor:
    """Sample a Gaussian to three deviations; (K,) float32, K odd, sum 1."""
    if not sigma_px > 0:
        raise ValueError(f"a Gaussian needs a deviation above 0 px, got {sigma_px}")
    radius = math.ceil(3 * sigma_px)
    positions = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (positions / sigma_px) ** 2)
    return (taps / taps.sum()).float()


def separable_blur(images: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Convolve rows and columns with the same taps, reflected at the border.

    Args:
        images: (N, C, H, W), H and W above half the taps.
        taps: (K,), K odd.

    Returns:
        The same shape, in float32 also under autocast.
    """
    if taps.ndim != 1 or taps.numel() % 2 == 0:
        raise ValueError(f"a blur needs an odd number of taps (K,), got {tuple(taps.shape)}")
    radius, channels = taps.numel() // 2, images.shape[1]
    if radius >= min(images.shape[-2:]):
        raise ValueError(
            f"{taps.numel()} taps do not fit images of {images.shape[-2]}x{images.shape[-1]} px"
        )
    with torch.autocast(images.device.type, enabled=False):
        kernel = taps.to(images.device, torch.promote_types(images.dtype, torch.float32))
        kernel = kernel.flip(0).expand(channels, 1, 1, -1)
        padded = functional.pad(
            images.to(kernel.dtype), (radius, radius, radius, radius), mode="reflect"
        )
        rows = functional.conv2d(padded, kernel, groups=channels)
        return functional.conv2d(rows, kernel.transpose(2, 3), groups=channels)


def local_mean(images: torch.Tensor, window_px: int) -> torch.Tensor:
    """Average over a square window around each pixel, cut off at the border; same shape.

    Args:
        images: (N, C, H, W).
        window_px: Side of the window, odd.
    """
    if window_px < 1 or window_px % 2 == 0:
        raise ValueError(f"a local mean needs an odd window, got {window_px} px")
    return functional.avg_pool2d(
        images, window_px, stride=1, padding=window_px // 2, count_include_pad=False
    )
