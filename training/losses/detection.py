"""Losses of the surrogate detector, and the generator's losses through it."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from training.losses.shapes import check_same_shape

DEFECT_SHARE = 0.3
"""Share of the weight of all cells that the cells of defects have together. A defect covers a few
cells of a thousand, and without this the sum would be about background alone."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Labels of cells.

    Attributes:
        target: (N, 1, h, w) float32, 1 where a cell lies in a defect, else 0.
        weight: The same shape; sums to 1, a set share of it on defects. 0 on a defect's rim and
            where what is there is neither background nor a defect.
        known: The same shape; 0 where what is there is neither background nor a defect, else 1.
    """

    target: torch.Tensor
    weight: torch.Tensor
    known: torch.Tensor


def label_cells(mask: torch.Tensor, ignored: torch.Tensor, *, cell_px: int) -> Cells:
    """Label cells by the masks of their pixels.

    Args:
        mask: (N, 1, H, W) float32, 1 on defects.
        ignored: The same shape, 1 where nothing is to be said.
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
    """Weighted cross-entropy of a detector's logits (N, 1, h, w); scalar."""
    check_same_shape(logits, cells.target)
    entropy = functional.binary_cross_entropy_with_logits(
        logits.float(), cells.target, reduction="none"
    )
    return (cells.weight * entropy).sum()


def detection_difference(
    on_sr: torch.Tensor, on_hr: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    """How differently a detector judges two aligned images; scalar, 0 where it judges alike.

    The relative entropy of what it says of each cell: false alarms and misses that true HR would
    not have caused, and nothing else, since its own errors on true HR are the target. Every cell
    counts alike: weights on defects would teach the generator to see them in noise.

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
    """Mean cross-entropy of the logits (N, 1, h, w) where nothing is to be found; scalar."""
    return functional.softplus(logits.float()).mean()
