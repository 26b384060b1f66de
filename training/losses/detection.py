"""Losses that train the surrogate detector, and losses of the generator on its logits.

A cell is the block of pixels that one logit of the detector describes.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from training.losses.shapes import check_same_shape

DEFECT_SHARE = 0.3
"""Share of the total weight that all defect cells have together. A defect covers a few cells of a
thousand; with equal weights, the background would dominate the loss."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Labels and weights of the detector's cells.

    Attributes:
        target: (N, 1, h, w) float32, 1 where a cell lies in a defect, else 0.
        weight: Weight of each cell, the same shape; the sum is 1, with `DEFECT_SHARE` on defects.
            0 on a defect's rim and in ignored cells.
        known: The same shape; 0 in ignored cells, which are neither background nor defect, else 1.
    """

    target: torch.Tensor
    weight: torch.Tensor
    known: torch.Tensor


def label_cells(mask: torch.Tensor, ignored: torch.Tensor, *, cell_px: int) -> Cells:
    """Compute the cells' labels from pixel masks.

    Args:
        mask: (N, 1, H, W) float32, 1 on defects.
        ignored: The same shape, 1 on pixels that count neither as defect nor as background.
        cell_px: Side of a cell; H and W are multiples of it.
    """
    check_same_shape(mask, ignored)
    covered = functional.avg_pool2d(mask, cell_px)
    target = (covered >= 0.5).float()
    # Half a cell's neighbourhood too: a detector is free to be unsure at a rim.
    near = functional.max_pool2d(covered, 3, stride=1, padding=1)
    is_rim = (target == 0) & (near > 0)
    known = 1.0 - (functional.max_pool2d(ignored, cell_px) > 0).float()
    counts = known * (1.0 - is_rim.float())
    shares = (DEFECT_SHARE, 1 - DEFECT_SHARE) if bool((counts * target).any()) else (0.0, 1.0)
    parts = zip(shares, (counts * target, counts * (1 - target)), strict=True)
    weight = sum((share * part / part.sum().clamp(min=1) for share, part in parts), counts * 0)
    return Cells(target=target, weight=weight, known=known)


def detection_loss(logits: torch.Tensor, cells: Cells) -> torch.Tensor:
    """Return the weighted cross-entropy of a detector's logits (N, 1, h, w), a scalar."""
    check_same_shape(logits, cells.target)
    entropy = functional.binary_cross_entropy_with_logits(
        logits.float(), cells.target, reduction="none"
    )
    return (cells.weight * entropy).sum()


def detection_difference(
    on_sr: torch.Tensor, on_hr: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    """Return how much a detector's probabilities differ between two aligned images; 0 if equal.

    The measure is the relative entropy per cell, averaged over all cells. The detector's answer on
    the HR image is the target, also where it is wrong: only additional false alarms and misses
    count. All known cells have equal weight: larger weights on defects would teach the generator
    to see defects in noise.

    Args:
        on_sr: (N, 1, h, w) logits.
        on_hr: The same shape; gets no gradient.
        known: 1 on the cells that count, the same shape.

    Source: the soft targets of Hinton et al. 2015, section 2, between inputs instead of networks.
    """
    check_same_shape(on_sr, on_hr)
    target = on_hr.detach().float().sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(on_sr.float(), target, reduction="none")
    least = functional.binary_cross_entropy(target, target, reduction="none")
    return (known * (entropy - least)).mean()


def alarm_loss(logits: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of logits (N, 1, h, w) on images without defects, a scalar."""
    return functional.softplus(logits.float()).mean()
