"""What the generator hears through the surrogate detector."""

import numpy as np
import pytest
import torch

from training.losses.detection import (
    DEFECT_SHARE,
    alarm_loss,
    detection_difference,
    detection_loss,
    label_cells,
)


def masks(side_px: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """One defect of 2x2 cells at rows and columns 8 to 16, one foreign patch in the corner."""
    mask, foreign = torch.zeros(2, 1, 1, side_px, side_px)
    mask[..., 8:16, 8:16] = 1
    foreign[..., 24:, 24:] = 1
    return mask, foreign


def test_cells_of_defects_and_background_share_the_weight() -> None:
    """Defect cells have their share, rim and foreign cells none, background the rest."""
    mask, foreign = masks()

    cells = label_cells(mask, foreign, cell_px=4)

    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:4, 2:4] = 1
    assert torch.equal(target, cells.target)
    assert pytest.approx(1) == float(cells.weight.sum())
    assert pytest.approx(DEFECT_SHARE) == float((cells.weight * target).sum())
    rim = torch.zeros(1, 1, 8, 8)
    rim[..., 1:5, 1:5] = 1
    rim -= target
    rim[..., 6:, 6:] = 1
    assert 0 == float((cells.weight * rim).abs().sum())
    # 64 cells less 4 of the defect, 12 of its rim and 4 foreign ones.
    assert 44 == int(((cells.weight > 0) & (target == 0)).sum())


def test_without_a_defect_background_has_all_the_weight() -> None:
    """A clean batch still weighs 1 in all."""
    clean = torch.zeros(2, 1, 16, 16)

    cells = label_cells(clean, clean, cell_px=4)

    assert pytest.approx(1) == float(cells.weight.sum())
    assert 0 == float(cells.target.sum())


def test_detection_loss_equals_its_definition() -> None:
    """A weighted cross-entropy, as NumPy computes it slowly."""
    cells = label_cells(*masks(), cell_px=4)
    logits = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    value = float(detection_loss(logits, cells))

    p = 1 / (1 + np.exp(-logits.double().numpy()))
    t, w = cells.target.numpy(), cells.weight.numpy()
    assert pytest.approx(-(w * (t * np.log(p) + (1 - t) * np.log(1 - p))).sum(), rel=1e-5) == value


def test_difference_is_nothing_for_equal_verdicts_and_grows_both_ways() -> None:
    """Alarms that HR has not, and misses of what HR shows, both cost; HR's own alarms do not."""
    on_hr = torch.full((1, 1, 4, 4), -6.0)
    on_hr[..., 1, 1] = 6.0
    known = torch.ones_like(on_hr)
    alarm, miss = on_hr.clone(), on_hr.clone()
    alarm[..., 3, 3] = 6.0
    miss[..., 1, 1] = -6.0

    same, alarmed, missed = (
        float(detection_difference(logits, on_hr, known)) for logits in (on_hr, alarm, miss)
    )

    assert pytest.approx(0, abs=1e-6) == same
    assert alarmed > 0.3
    assert pytest.approx(alarmed, rel=1e-3) == missed


def test_only_the_generated_side_gets_a_gradient() -> None:
    """The verdict on HR is a target."""
    on_sr, on_hr = (torch.randn(1, 1, 4, 4, requires_grad=True) for _ in range(2))

    detection_difference(on_sr, on_hr, torch.ones(1, 1, 4, 4)).backward()

    assert on_sr.grad is not None
    assert on_hr.grad is None


def test_alarm_loss_rises_with_the_alarms() -> None:
    """Log 2 where the detector is undecided, about nothing where it is sure of nothing."""
    assert pytest.approx(np.log(2)) == float(alarm_loss(torch.zeros(1, 1, 2, 2)))
    assert float(alarm_loss(torch.full((1, 1, 2, 2), -9.0))) < 2e-4
