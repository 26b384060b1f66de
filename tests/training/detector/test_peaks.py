"""Detections from hand-made maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.detector.peaks import Detection, find_peaks


def test_blob_is_one_detection_with_its_box() -> None:
    """A blob gives its peak's score, its weighted centre and its half-height box in pixels."""
    scores = np.zeros((40, 50))
    scores[10:13, 20:25] = 0.6
    scores[11, 22] = 0.9

    found = find_peaks(scores, cell_px=4)

    assert [Detection(x_px=90.0, y_px=46.0, score=0.9, box_px=(80, 40, 100, 52))] == found


def test_detections_come_by_falling_score_and_above_the_floor() -> None:
    """What lies below the floor is left out; the rest is sorted."""
    scores = np.zeros((40, 40))
    scores[5, 5], scores[20, 20], scores[35, 5], scores[5, 35] = 0.3, 0.8, 0.5, 0.1

    found = find_peaks(scores, cell_px=4, floor=0.2)

    assert [0.8, 0.5, 0.3] == [detection.score for detection in found]


@pytest.mark.parametrize(("gap_cells", "expected"), [(2, 1), (3, 1), (4, 2), (8, 2)])
def test_peaks_within_12_pixels_are_one(gap_cells: int, expected: int) -> None:
    """Two single cells merge up to a distance of three cells of 4 px."""
    scores = np.zeros((30, 30))
    scores[15, 10], scores[15, 10 + gap_cells] = 0.9, 0.7

    assert expected == len(find_peaks(scores, cell_px=4))


def test_long_scratch_with_many_peaks_is_one_detection() -> None:
    """Ripples along a ridge that stays above half of its peak are no further detections."""
    scores = np.zeros((60, 60))
    scores[30, 5:55] = 0.7 + 0.2 * np.sin(np.arange(50))

    (found,) = find_peaks(scores, cell_px=4)

    assert (20, 120, 220, 124) == found.box_px


def test_faint_neighbour_on_a_slope_keeps_its_own_place() -> None:
    """A second peak's region does not run back into the first one's, which would move its box."""
    scores = np.full((20, 60), 0.1)
    scores[10, 10], scores[10, 30] = 0.95, 0.15

    first, second = find_peaks(scores, cell_px=4, floor=0.05)[:2]

    assert (0.95, 0.15) == (first.score, second.score)
    assert (40, 40, 44, 44) == first.box_px
    assert not (second.box_px[0] < 44 and second.x_px < 60)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_two_peaks_share_a_place(seed: int) -> None:
    """In noise, peaks stay in their boxes, in the image, sorted, and the maximum is first."""
    scores = np.random.default_rng(seed).random((16, 24)) ** 4

    found = find_peaks(scores, cell_px=4)

    assert scores.max() == found[0].score
    assert sorted((d.score for d in found), reverse=True) == [d.score for d in found]
    for detection in found:
        left, top, right, bottom = detection.box_px
        assert 0 <= left < detection.x_px < right <= 96
        assert 0 <= top < detection.y_px < bottom <= 64


def test_flat_map_and_wrong_shape() -> None:
    """A map below the floor has no detection; a batch of maps is refused."""
    assert [] == find_peaks(np.zeros((8, 8)), cell_px=4)
    with pytest.raises(ValueError, match=r"rows and columns, got .* \(1, 8, 8\)"):
        find_peaks(np.zeros((1, 8, 8)), cell_px=4)
