"""Pixel loss for aligned pairs of output and target."""

import torch

from training.losses.shapes import check_same_shape


def charbonnier(
    sr: torch.Tensor,
    target: torch.Tensor,
    *,
    eps: float = 1e-3,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the weighted mean of sqrt(d^2 + eps^2) over pixels with difference d.

    A pixel's loss is about quadratic for |d| below eps and linear above. The result is a scalar of
    at least eps.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1].
        target: The same shape, aligned.
        eps: Grey at which the loss turns linear, in units of [0, 1].
        weight: Pixel weights, the same shape, non-negative, with a positive sum; None: equal ones.

    Source: Charbonnier et al. 1994; as an image loss Lai et al. 2017, eq. 4.
    """
    check_same_shape(sr, target)
    distance = ((sr - target) ** 2 + eps**2).sqrt()
    if weight is None:
        return distance.mean()
    return (weight * distance).sum() / weight.sum()
