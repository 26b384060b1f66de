"""Resizing by Keys' cubic with antialiasing, as matrices: one product for rows, one for columns.

The output's size and the scale are independent, so that an odd side can be shrunk and enlarged
again by the same factor. Pixel edges at the top left coincide, and the border reflects.

Source: Keys 1981, "Cubic convolution interpolation for digital image processing", eq. 15, a = -0.5;
the kernel widens by 1/scale when shrinking, as MATLAB's `imresize` does.
"""

import functools
import math

import torch

from training.ground.keys import keys


def resize_weights(scales: torch.Tensor, *, length: int, out_length: int) -> torch.Tensor:
    """Return the matrices that resize a line of pixels, one for each scale.

    Args:
        scales: (T,) output pixels for one input pixel.
        length: Input pixels.
        out_length: Output pixels; those beyond `scale * length` show the reflected border, and
            those further away than the kernel reaches repeat one value.

    Returns:
        (T, out_length, length) float64; rows sum to 1. At scale 1 exactly the identity.

    Raises:
        ValueError: The line is shorter than the widened kernel.
    """
    scales = scales.to(torch.float64)
    narrowed = scales.clamp(max=1.0)
    reach = math.ceil(2 / float(narrowed.min())) + 1
    ahead = 2 * reach
    if ahead > length:
        raise ValueError(
            f"a line is {length} px long, expected at least {ahead} px to resize it by "
            f"{float(scales.min()):.3g}"
        )
    device = scales.device
    places = torch.arange(-reach, length + ahead, dtype=torch.float64, device=device)
    centres = torch.arange(out_length, dtype=torch.float64, device=device) + 0.5
    centres = (centres / scales[:, None] - 0.5).clamp(max=length - 1 + reach)
    weights = keys((places - centres[:, :, None]) * narrowed[:, None, None])
    weights = weights / weights.sum(2, keepdim=True)
    inner = weights[:, :, reach : reach + length].clone()
    inner[:, :, :reach] += weights[:, :, :reach].flip(2)
    inner[:, :, length - ahead :] += weights[:, :, reach + length :].flip(2)
    return inner


def resize(images: torch.Tensor, scale: float, size: tuple[int, int]) -> torch.Tensor:
    """Resize images by one scale.

    Args:
        images: (..., H, W) float, any range.
        scale: Output pixels for one input pixel.
        size: Height and width of the output.

    Returns:
        (..., *size), same range; may overshoot at edges.
    """
    height, width = images.shape[-2:]
    rows = _fixed_weights(scale, height, size[0], images.dtype, images.device)
    columns = _fixed_weights(scale, width, size[1], images.dtype, images.device)
    return rows @ images @ columns.T


def shrink(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Shrink (..., H, W) by an integer factor to (..., ceil(H / factor), ceil(W / factor))."""
    height, width = images.shape[-2:]
    return resize(images, 1 / factor, (-(-height // factor), -(-width // factor)))


def enlarge(images: torch.Tensor, factor: int, size: tuple[int, int]) -> torch.Tensor:
    """Enlarge (..., H, W) by an integer factor to a size, which may be cut at bottom and right."""
    return resize(images, float(factor), size)


@functools.lru_cache(maxsize=8)
def noise_gain(factor: int) -> float:
    """Return the variance that shrinking by a factor leaves of white noise of variance 1."""
    length = 16 * factor
    line = resize_weights(
        torch.tensor([1 / factor], dtype=torch.float64), length=length, out_length=16
    )[0, 8]
    return float((line**2).sum()) ** 2


@functools.lru_cache(maxsize=64)
def _fixed_weights(
    scale: float, length: int, out_length: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    weights = resize_weights(
        torch.tensor([scale], dtype=torch.float64), length=length, out_length=out_length
    )[0]
    return weights.to(device=device, dtype=dtype)
