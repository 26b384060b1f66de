"""Loss of the detector: weighted focal cross-entropy and a soft Dice loss."""

import torch
from torch.nn import functional

FOCUS = 2.0
"""Exponent of the focal loss: cells that are right already hardly count."""

USUAL_CELLS = 30.0
"""The usual weight of the defect cells of one crop, that the focal loss is measured in. A constant:
divided by a batch's own weight, a batch with one small defect would outweigh ten others. Also added
to the sums of the Dice loss, so that a batch without defects stays tame."""


def detection_loss(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Return the loss of a batch, a scalar; about 4 at the start.

    Focal loss: -(1 - p_t)^2 log p_t, weighted, summed over each crop, in units of `USUAL_CELLS`.
    Dice: 1 - 2 |P T| / (|P| + |T|) with probabilities for sets, over the whole batch.

    Source: Lin et al. 2017, "Focal loss for dense object detection", eq. 4 (without alpha);
    Milletari et al. 2016, "V-Net", section 3.

    Args:
        logits: (N, 1, h, w) float32.
        target: The same shape, 0 or 1.
        weight: The same shape, at least 0.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = (1 - torch.exp(-entropy)) ** FOCUS * entropy
    probability = logits.sigmoid()
    overlap = (weight * probability * target).sum()
    total = (weight * probability).sum() + (weight * target).sum()
    dice = 1 - (2 * overlap + USUAL_CELLS) / (total + USUAL_CELLS)
    return (weight * focal).sum() / (len(logits) * USUAL_CELLS) + dice
