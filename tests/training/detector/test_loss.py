"""The loss against a slow version, and its order."""

import math

import pytest
import torch

from training.detector.loss import detection_loss


def test_loss_equals_its_formula() -> None:
    """A loop over cells with plain numbers gives the same."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 1, 3, 4, generator=generator)
    target = (torch.rand(2, 1, 3, 4, generator=generator) < 0.3).float()
    weight = torch.rand(2, 1, 3, 4, generator=generator)

    focal = overlap = total = 0.0
    flat = (tensor.flatten().tolist() for tensor in (logits, target, weight))
    for logit, truth, share in zip(*flat, strict=True):
        p = 1 / (1 + math.exp(-logit))
        p_true = p if truth else 1 - p
        focal -= share * (1 - p_true) ** 2 * math.log(p_true)
        overlap += share * p * truth
        total += share * (p + truth)
    expected = focal / (2 * 30) + 1 - (2 * overlap + 30) / (total + 30)

    assert expected == pytest.approx(detection_loss(logits, target, weight).item(), rel=1e-5)


def test_right_answers_cost_nothing_and_rims_do_not_count() -> None:
    """Sure and right is about 0; sure and wrong is dear, unless the weight is 0."""
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:5, 2:5] = 1
    right = 40 * (target - 0.5)
    wrong = right.clone()
    wrong[..., 6, 6] = 20
    weight = torch.ones_like(target)
    masked = weight.clone()
    masked[..., 6, 6] = 0

    assert 0 == pytest.approx(detection_loss(right, target, weight).item(), abs=1e-5)
    assert detection_loss(wrong, target, weight) > 0.4
    assert 0 == pytest.approx(detection_loss(wrong, target, masked).item(), abs=1e-5)
