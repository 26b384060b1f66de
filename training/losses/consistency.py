"""LR consistency: the SR image and the LR image must show the same structure.

The SR image is averaged down to the LR grid and correlated with the real LR image in small windows.
Correlation ignores local gain and offset, in which LR and HR looks differ; it responds to lost,
moved and invented structure.
"""

from typing import NamedTuple

import torch
from torch.nn import functional

from training.losses.filters import local_mean
from training.losses.shapes import check_grey_batch, check_same_shape


class ConsistencyLoss(NamedTuple):
    """LR consistency of a batch: 0 for equal structures, 1 for unrelated, 2 for inverted ones."""

    mean: torch.Tensor
    """Scalar: mean over the map; dominated by the background."""
    worst: torch.Tensor
    """Scalar: mean over the worst places of each image; sees a single small defect."""
    map: torch.Tensor
    """(N, 1, h, w) on the LR grid, in [0, 2], in the graph: 1 - local correlation."""


def downscale(images: torch.Tensor, *, scale: int) -> torch.Tensor:
    """Reduce SR or HR images to the LR grid: each LR pixel is the mean of scale x scale pixels.

    Args:
        images: (N, 1, s*h, s*w) float32 in [0, 1].
        scale: s.

    Returns:
        (N, 1, h, w) float32.
    """
    check_grey_batch(images, "images to downscale")
    if scale < 1 or images.shape[-2] % scale or images.shape[-1] % scale:
        raise ValueError(
            f"{images.shape[-2]}x{images.shape[-1]} px cannot be divided by a scale of {scale}"
        )
    return functional.avg_pool2d(images, scale)


def lr_consistency(
    coarse: torch.Tensor,
    lr: torch.Tensor,
    *,
    window_px: int = 11,
    worst_share: float = 0.05,
    eps: float = 1e-3,
) -> ConsistencyLoss:
    """Correlate the downscaled SR image with its LR image around every LR pixel.

    The map is 1 - (cov + eps) / sqrt((var_sr + eps) (var_lr + eps)) over a square window, which is
    cut off at the border. Because of eps, a place where both images are flat counts as equal;
    without it, the noise there would be compared.

    Args:
        coarse: (N, 1, h, w) float32, the output on the LR grid, nominally in [0, 1].
        lr: (N, 1, h, w) float32 in [0, 1]; gets no gradient.
        window_px: Side of the window in LR pixels, odd.
        worst_share: Share of each image's places that `worst` averages, in (0, 1].
        eps: Variance of about the noise, in squared grey of [0, 1].

    Source: the normalised cross-correlation of Lewis 1995, with the constants of the structure
    term of Wang et al. 2004 (SSIM), eq. 10.
    """
    check_grey_batch(lr, "LR images")
    check_same_shape(coarse, lr)
    if not 0 < worst_share <= 1:
        raise ValueError(f"the worst share must be in (0, 1], got {worst_share}")
    with torch.autocast(coarse.device.type, enabled=False):
        exact = torch.promote_types(coarse.dtype, torch.float32)
        x, y = _centred(coarse.to(exact)), _centred(lr.detach().to(exact))
        mean_x, mean_y = local_mean(x, window_px), local_mean(y, window_px)
        var_x = (local_mean(x * x, window_px) - mean_x**2).clamp(min=0)
        var_y = (local_mean(y * y, window_px) - mean_y**2).clamp(min=0)
        covariance = local_mean(x * y, window_px) - mean_x * mean_y
        lost = 1 - (covariance + eps) / ((var_x + eps) * (var_y + eps)).sqrt()
        flat = lost.flatten(1)
        num_worst = max(1, round(flat.shape[1] * worst_share))
        worst = flat.topk(num_worst, dim=1).values.mean()
    return ConsistencyLoss(mean=lost.mean(), worst=worst, map=lost)


def _centred(images: torch.Tensor) -> torch.Tensor:
    """Subtract each image's mean, so that float32 variances do not suffer from cancellation."""
    return images - images.detach().mean((2, 3), keepdim=True)
