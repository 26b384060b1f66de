"""Pixel losses: they need a target that is aligned with the output (real or planted pairs)."""

import torch

from training.losses.filters import gaussian_taps, separable_blur
from training.losses.shapes import check_same_shape


def charbonnier(sr: torch.Tensor, target: torch.Tensor, *, eps: float = 1e-3) -> torch.Tensor:
    """Mean of sqrt(d^2 + eps^2): L1 with a smooth foot; scalar, at least eps.

    Source: Charbonnier et al. 1994; as an image loss Lai et al. 2017, eq. 4.
    """
    check_same_shape(sr, target)
    return ((sr - target) ** 2 + eps**2).sqrt().mean()


def low_passed_l1(sr: torch.Tensor, target: torch.Tensor, *, sigma_px: float) -> torch.Tensor:
    """Mean absolute difference of both images under a Gaussian: structure, not grain; scalar.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1].
        target: The same shape, aligned.
        sigma_px: Deviation of the Gaussian in pixels of these images.
    """
    check_same_shape(sr, target)
    return separable_blur(sr - target, gaussian_taps(sigma_px)).abs().mean()
