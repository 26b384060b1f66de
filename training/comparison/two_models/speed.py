"""Ratio of two models' speeds, measured alternately in one run."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.evaluation.compared.methods import Method
from training.evaluation.folders.benchmark import Picture
from training.evaluation.judging.bootstrap import Interval, interval

TURNS = 15
_WARM_UPS = 2
_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Times of one tile on this machine, in this run.

    Attributes:
        first_ms: Median of the first model, milliseconds.
        second_ms: Median of the second model.
        ratio: First time over second time, the median over turns, with its 95 % interval: above 1
            the second model is faster.
        turns: Number of turns, in each of which both models had one tile.
    """

    first_ms: float
    second_ms: float
    ratio: Interval
    turns: int


def measure_speed(
    first: Method,
    second: Method,
    lr: Picture,
    *,
    turns: int = TURNS,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time both models in turns, so that a busy machine slows both.

    Args:
        first: The first model.
        second: The second model.
        lr: (h, w) uint8, the tile of both.
        turns: Number of turns.
        clock: Clock in seconds.
    """
    for _ in range(_WARM_UPS):
        first.answer(lr)
        second.answer(lr)
    times_s = np.zeros((turns, 2))
    for turn in range(turns):
        # Each is first in every other turn: a cold cache must not count against one of them.
        sides = (0, 1) if turn % 2 == 0 else (1, 0)
        for side in sides:
            started_s = clock()
            (first, second)[side].answer(lr)
            times_s[turn, side] = clock() - started_s
    ratios = times_s[:, 0] / times_s[:, 1]
    drawn = np.random.default_rng(0).integers(0, turns, (_DRAWS, turns))
    medians_ms = 1e3 * np.median(times_s, axis=0)
    return Speed(
        first_ms=float(medians_ms[0]),
        second_ms=float(medians_ms[1]),
        ratio=interval(float(np.median(ratios)), np.median(ratios[drawn], axis=1)),
        turns=turns,
    )
