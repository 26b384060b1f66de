"""Matching and FROC against slow versions and detectors whose score is known."""

from dataclasses import dataclass

import numpy as np
import pytest

from training.evaluation.folders.benchmark import Defect
from training.evaluation.measures.detection import (
    NOT_FOUND,
    Scores,
    froc_area,
    froc_curve,
    is_in_border,
    match,
    touches_border,
)


@dataclass(frozen=True)
class Found:
    """A detection with the fields that matching reads."""

    x_px: float
    y_px: float
    score: float


def _defect(number: int, left: int, top: int, side_px: int = 20) -> Defect:
    return Defect(
        number=number,
        kind="void",
        group="unseen",
        box_hr_px=(left, top, left + side_px, top + side_px),
        size_hr_px=side_px,
        contrast_to_noise=4.0,
    )


def _scores(hits: list[float], alarms: list[float], tiles: int = 4) -> Scores:
    rng = np.random.default_rng(0)
    return Scores(
        hits=np.array(hits, dtype=float),
        hit_tiles=np.arange(len(hits)) % tiles,
        alarms=np.array(alarms, dtype=float),
        alarm_tiles=rng.integers(0, tiles, len(alarms)),
        num_hit_tiles=tiles,
        num_alarm_tiles=tiles,
    )


def test_points_in_the_grown_box_hit_once() -> None:
    """Six pixels beyond the box still hit, seven do not; two on one defect are one hit."""
    defects = (_defect(1, 100, 100), _defect(2, 300, 300))
    found = [Found(94, 110, 0.4), Found(110, 110, 0.9), Found(93, 110, 0.8), Found(500, 5, 0.7)]

    matches = match(found, defects, shape=(960, 960))

    assert (0.9, NOT_FOUND) == matches.hit_scores
    assert [(0.8, False), (0.7, True)] == [(a.score, a.is_border) for a in matches.alarms]


def test_one_point_may_hit_two_overlapping_defects() -> None:
    """A point in both boxes counts for both, and is no alarm."""
    matches = match(
        [Found(118, 118, 0.5)], (_defect(1, 100, 100), _defect(2, 115, 115)), shape=(960, 960)
    )

    assert ((0.5, 0.5), ()) == (matches.hit_scores, matches.alarms)


def test_the_border_is_the_outer_sixteen_pixels() -> None:
    """For points it is 16 px, for defects the grown box must reach into it."""
    assert is_in_border(15.9, 400, shape=(960, 960))
    assert not is_in_border(16, 400, shape=(960, 960))
    assert is_in_border(400, 945, shape=(960, 960))
    assert touches_border(_defect(1, 21, 400), shape=(960, 960))
    assert not touches_border(_defect(1, 22, 400), shape=(960, 960))


def test_area_of_perfect_blind_and_half_blind_detectors() -> None:
    """1 where all is found above every alarm, 0 where nothing is, 0.5 where half is."""
    assert [1.0] == froc_area(_scores([0.9] * 6, [])).tolist()
    assert [1.0] == froc_area(_scores([0.9] * 6, [0.1] * 40)).tolist()
    assert [0.0] == froc_area(_scores([NOT_FOUND] * 6, [0.1] * 40)).tolist()
    assert [0.5] == froc_area(_scores([0.9, 0.9, NOT_FOUND, NOT_FOUND], [0.5])).tolist()
    assert [0.0] == froc_area(_scores([0.2] * 6, [0.9] * 40)).tolist()


def test_area_equals_a_slow_integral() -> None:
    """Recall is summed over every rate k / tiles, at the threshold just above the next alarm."""
    rng = np.random.default_rng(3)
    hits, alarms = rng.uniform(0.2, 1, 40), rng.uniform(0, 1, 30)
    hits[:5] = NOT_FOUND
    scores = _scores(hits.tolist(), alarms.tolist(), tiles=10)
    ordered = sorted(alarms, reverse=True)
    slow = float(np.mean([np.mean(hits > ordered[k]) for k in range(10)]))
    rates, recall = froc_curve(scores)

    assert 0 < slow == pytest.approx(float(froc_area(scores)[0]))
    assert slow == pytest.approx(float(recall[rates < 1 - 1e-9].mean()))
    assert (rates[-1], recall[-1]) == (3.0, 35 / 40)


def test_weighted_areas_equal_areas_of_repeated_tiles() -> None:
    """A tile drawn twice counts as two tiles, one not drawn as none."""
    rng = np.random.default_rng(4)
    scores = _scores(rng.uniform(0, 1, 12).tolist(), rng.uniform(0, 1, 14).tolist())
    hit_weights = np.array([[2.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    alarm_weights = np.array([[0.0, 3.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])

    fast = froc_area(scores, hit_weights=hit_weights, alarm_weights=alarm_weights)

    repeated = Scores(
        hits=scores.hits.repeat(hit_weights[0].astype(int)[scores.hit_tiles]),
        hit_tiles=scores.hit_tiles.repeat(hit_weights[0].astype(int)[scores.hit_tiles]),
        alarms=scores.alarms.repeat(alarm_weights[0].astype(int)[scores.alarm_tiles]),
        alarm_tiles=scores.alarm_tiles.repeat(alarm_weights[0].astype(int)[scores.alarm_tiles]),
        num_hit_tiles=4,
        num_alarm_tiles=4,
    )
    assert fast[0] == pytest.approx(float(froc_area(repeated)[0]))
    assert fast[1] == pytest.approx(float(froc_area(scores)[0]))


def test_recall_at_a_rate_uses_the_lowest_threshold_that_keeps_it() -> None:
    """One alarm on four tiles is a rate of 0.25: at 0.2 it must be shut out."""
    scores = _scores([0.9, 0.5, 0.3, 0.1], [0.4, 0.2])

    assert 0.5 == scores.recall_at(0.2)
    assert 0.75 == scores.recall_at(0.25)
    assert 1.0 == scores.recall_at(0.5)
    assert 0.5 == scores.recall(0.4)


def test_nothing_to_score_is_not_a_number() -> None:
    """Without defects or without clean tiles there is no recall and no area."""
    assert np.isnan(froc_area(_scores([], [0.4]))).all()
    assert np.isnan(_scores([], []).recall(0.5))
