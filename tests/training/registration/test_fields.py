"""Overlap of a pair on the HR grid."""

import numpy as np
import pytest

from training.registration.fields import Fields

SHIFTS = [(0, 0), (5, -3), (-5, 3), (24, 24), (-24, -17), (4, -4)]


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("hr_shape", [(240, 320), (250, 330), (237, 301)])
def test_crops_show_one_field_and_hr_is_exactly_scale_times_lr(
    shift: tuple[int, int], hr_shape: tuple[int, int]
) -> None:
    """An HR pixel of the crop lies where the centred LR pixel plus the shift says."""
    fields = Fields((60, 80), hr_shape, 4)
    lr_part, hr_part = fields.crops(shift)
    for axis in (0, 1):
        lr, hr = lr_part[axis], hr_part[axis]
        assert 4 * (lr.stop - lr.start) == hr.stop - hr.start
        assert 0 <= lr.start < lr.stop <= fields.lr_shape[axis]
        assert 0 <= hr.start < hr.stop <= hr_shape[axis]
        assert hr.start == 4 * lr.start + fields.origin[axis] + shift[axis]
        # Nothing that both show is left out.
        assert hr.start < 4 or lr.start == 0
        assert hr_shape[axis] - hr.stop < 4 or lr.stop == fields.lr_shape[axis]


def test_searchable_part_stays_within_hr_at_every_shift() -> None:
    """The greatest shift up and down reaches HR's border, not beyond."""
    fields = Fields((60, 80), (250, 320), 4)
    rows, columns = fields.searchable(24)
    assert (19, 221) == (rows.start, rows.stop)
    assert (24, 296) == (columns.start, columns.stop)


def test_fields_apart_overlap_nowhere() -> None:
    """A shift beyond the picture gives empty crops."""
    lr_part, _ = Fields((60, 60), (240, 240), 4).crops((300, 0))
    assert 0 == np.zeros((60, 60))[lr_part].size
