"""Planted failures: what is pasted where, and how visible the defect is in the LR tile."""

import numpy as np
import pytest

from training.evaluation.trust.planted_failures import Twins, plant_failures, render_twins

SCALE = 4
SIDE = 40


@pytest.fixture(scope="module")
def twins() -> Twins:
    """The first tile of a benchmark of its own seed."""
    return render_twins("test_defect", seed=77, number=0)


def _made_up() -> Twins:
    """Two defects: a square of 4 LR px of a known contrast, and one that LR hardly shows."""
    change = np.zeros((SIDE, SIDE))
    change[10:14, 8:12] = -15.0
    change[30, 30] = 1.0
    labels = np.zeros((SIDE * SCALE, SIDE * SCALE), dtype=np.uint8)
    labels[40:56, 32:48] = 1
    labels[120:124, 120:124] = 2
    change_hr = np.zeros(labels.shape)
    change_hr[labels == 1] = -20.0
    change_hr[labels == 2] = 400.0
    lr = np.full((SIDE, SIDE), 80, dtype=np.uint8)
    return Twins(
        lr=lr,
        lr_without=lr + 1,
        change_lr=change,
        noise_lr=np.full((SIDE, SIDE), 5.0),
        change_hr=change_hr,
        labels=labels,
        kinds=("void", "particle"),
        scene="blank_film",
        scale=SCALE,
    )


def test_twins_differ_where_the_defects_are_and_share_their_noise(twins: Twins) -> None:
    """Away from every defect and its charging tail the two LR tiles are the same."""
    far = np.ones(twins.lr.shape, dtype=bool)
    rows, _ = np.nonzero(twins.labels)
    for row in np.unique(rows // twins.scale):
        far[max(row - 12, 0) : row + 13] = False

    assert 0.1 < far.mean()
    assert np.abs(twins.lr.astype(int) - twins.lr_without)[far].max() <= 1
    assert 3 <= len(twins.kinds)
    assert len(twins.kinds) == twins.labels.max()
    inside = twins.labels.reshape(240, 4, 240, 4).max(axis=(1, 3)) > 0
    assert np.abs(twins.change_lr[inside]).mean() > 10 * np.abs(twins.change_lr[far]).mean()


def test_erased_shows_one_place_of_the_other_answer(twins: Twins) -> None:
    """Only around the defect, and as the model answers the tile without it."""
    sr = np.full(twins.labels.shape, 100, dtype=np.uint8)
    sr_without = np.full(twins.labels.shape, 50, dtype=np.uint8)

    erased = [item for item in plant_failures(twins, sr, sr_without) if item.failure == "erased"]

    assert list(twins.kinds) == [item.defect for item in erased]
    for number, item in enumerate(erased, start=1):
        assert item.lr is twins.lr
        assert (item.sr[twins.labels == number] == 50).all()
        others = (twins.labels > 0) & (twins.labels != number)
        assert (item.sr[others] == 100).all()
        assert 0.8 < (item.sr == 100).mean() < 1


def test_invented_adds_the_defects_change_to_the_clean_answer() -> None:
    """Clipped to grey levels, and nowhere else."""
    made = _made_up()
    sr = np.full(made.labels.shape, 100, dtype=np.uint8)

    first, second = [item for item in plant_failures(made, sr, sr) if item.failure == "invented"]

    assert first.lr is made.lr_without
    np.testing.assert_array_equal(first.sr == 80, made.labels == 1)
    np.testing.assert_array_equal(second.sr == 255, made.labels == 2)
    assert {80, 100} == set(np.unique(first.sr))


def test_size_and_contrast_are_those_of_the_lr_tile() -> None:
    """15 grey levels over a noise of 5; what stays below half the noise is not seen at all."""
    made = _made_up()
    sr = np.full(made.labels.shape, 100, dtype=np.uint8)

    first, _, second, _ = plant_failures(made, sr, sr)

    assert (4.0, 3.0) == (first.size_lr_px, first.contrast_to_noise)
    assert (1.0, 0.0) == (second.size_lr_px, second.contrast_to_noise)
