"""The threshold, and recall at it, with a network that is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.detector import Detector
from training.detector.calibration import calibrate, threshold_for
from training.detector.network import DetectorNetwork
from training.detector.tiles import LabelledTile

Draw = Callable[..., LabelledTile]


class _Brightness(DetectorNetwork):
    """A fixed network: the logit is the cell's mean grey above 100, in tens of levels."""

    def __init__(self) -> None:
        super().__init__(channels=(1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (nn.functional.avg_pool2d(image, 4) * 255 - 100) / 10


@settings(deadline=None)
@given(
    st.lists(st.floats(0.001, 0.999), max_size=60),
    st.integers(1, 30),
    st.lists(st.floats(0, 3), min_size=2, max_size=2).map(sorted),
)
def test_threshold_keeps_its_rate_and_falls_with_it(
    scores: list[float], tiles: int, rates: list[float]
) -> None:
    """No more alarms than allowed, and a higher rate never has a higher threshold."""
    low, high = (threshold_for(scores, tiles=tiles, alarms_per_tile=rate) for rate in rates)

    assert low >= high
    for threshold, rate in zip((low, high), rates, strict=True):
        assert sum(score >= threshold for score in scores) <= rate * tiles + 1e-6


def test_threshold_is_just_above_the_first_score_too_many() -> None:
    """Ten tiles at 0.2 alarms keep two scores of five."""
    threshold = threshold_for([0.1, 0.9, 0.4, 0.7, 0.3], tiles=10, alarms_per_tile=0.2)

    assert 0.4 < threshold < 0.400001
    assert 1.0 == threshold_for([], tiles=10, alarms_per_tile=0.2)
    assert 0.9 == threshold_for([0.9], tiles=10, alarms_per_tile=0.2)


def test_recall_counts_found_defects(drawn_tile: Draw) -> None:
    """Bright squares are found, the one that was labelled but not drawn is not."""
    clean = [drawn_tile(seed=n, defects=0) for n in range(10)]
    tiles = [drawn_tile(seed=n, defects=3) for n in range(10, 14)]
    cells = tiles[0].cells.copy()
    cells[0, 0] = 4
    tiles[0] = LabelledTile(tiles[0].hr, cells, "drawn", (*tiles[0].kinds, "ghost"))

    result = calibrate(Detector(_Brightness(), 0.5), clean=clean, with_defects=tiles)

    assert (10, 4, 13) == (result.clean_tiles, result.defect_tiles, result.defects)
    assert {"square": 1.0, "ghost": 0.0} == result.recall_by_kind
    assert 12 / 13 == result.recall == result.recall_by_scene["drawn"]
    assert result.alarms_per_tile <= 0.1
    assert 0.9231 == result.as_dict()["recall"]


def test_alarms_on_clean_tiles_raise_the_threshold(drawn_tile: Draw) -> None:
    """A dozen bright specks on clean tiles leave at most one alarm on ten of them."""
    clean = [drawn_tile(seed=n, defects=0) for n in range(10)]
    for number, tile in enumerate(clean):
        tile.hr[96:104, 96:104] = 110 + number
    tiles = [drawn_tile(seed=20, defects=3)]

    result = calibrate(Detector(_Brightness(), 0.5), clean=clean, with_defects=tiles)

    assert 0.1 == result.alarms_per_tile
    assert {"drawn": 1} == result.alarms_by_scene
    expected = 1 / (1 + np.exp(-1.8))
    assert expected == pytest.approx(result.threshold, abs=1e-4)


def test_wrong_tiles_are_refused(drawn_tile: Draw) -> None:
    """The threshold needs clean tiles, the recall needs defects."""
    detector = Detector(_Brightness(), 0.5)
    clean, dirty = drawn_tile(seed=0, defects=0), drawn_tile(seed=1, defects=1)

    with pytest.raises(ValueError, match="needs clean tiles"):
        calibrate(detector, clean=[dirty], with_defects=[dirty])
    with pytest.raises(ValueError, match="needs defects; 1 tiles have none"):
        calibrate(detector, clean=[clean], with_defects=[clean])
