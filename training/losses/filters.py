"""Fixed filters on batches (N, C, H, W), shared by several losses."""

import math

import torch
from torch.nn import functional


def gaussian_taps(sigma_px: float) -> torch.Tensor:
    """Sample a Gaussian out to three deviations, as (K,) float32 with K odd and sum 1."""
    if not sigma_px > 0:
        raise ValueError(f"a Gaussian needs a deviation above 0 px, got {sigma_px}")
    radius = math.ceil(3 * sigma_px)
    positions = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (positions / sigma_px) ** 2)
    return (taps / taps.sum()).float()


def separable_blur(images: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Convolve rows and columns with the same taps; the border is reflected.

    Args:
        images: (N, C, H, W), H and W above half the taps.
        taps: (K,), K odd.

    Returns:
        The same shape, in float32 also under autocast.
    """
    if taps.ndim != 1 or taps.numel() % 2 == 0:
        raise ValueError(f"a blur needs an odd number of taps (K,), got {tuple(taps.shape)}")
    height, width = images.shape[-2:]
    if taps.numel() // 2 >= min(height, width):
        raise ValueError(f"{taps.numel()} taps do not fit images of {height}x{width} px")
    with torch.autocast(images.device.type, enabled=False):
        kernel = taps.to(images.device, torch.promote_types(images.dtype, torch.float32))
        down, across = _blur_matrix(kernel, height), _blur_matrix(kernel, width)
        return down @ images.to(kernel.dtype) @ across.T


def _blur_matrix(taps: torch.Tensor, size: int) -> torch.Tensor:
    """Return the (size, size) matrix of a 1D convolution with a reflected border.

    On a CPU, a product with this matrix takes a tenth of the convolution's time, despite more
    arithmetic: the backward pass of a long one-channel convolution took half of a training step.
    """
    radius = taps.numel() // 2
    row = torch.arange(size, device=taps.device)
    column = row[:, None] + torch.arange(-radius, radius + 1, device=taps.device)
    # Reflected about the outermost pixels' centres, as functional.pad does.
    column = (size - 1) - ((size - 1) - column.abs()).abs()
    matrix = taps.new_zeros(size, size)
    # Flipped, because this is a convolution: tap k weighs the pixel k to the left.
    return matrix.index_put_((row[:, None], column), taps.flip(0).expand(size, -1), accumulate=True)


def local_mean(images: torch.Tensor, window_px: int) -> torch.Tensor:
    """Average over a square window around each pixel; the window is cut off at the border.

    Args:
        images: (N, C, H, W).
        window_px: Side of the window, odd.
    """
    if window_px < 1 or window_px % 2 == 0:
        raise ValueError(f"a local mean needs an odd window, got {window_px} px")
    return functional.avg_pool2d(
        images, window_px, stride=1, padding=window_px // 2, count_include_pad=False
    )
