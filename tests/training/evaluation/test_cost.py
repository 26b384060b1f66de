"""Cost: a measured time."""

import time

import numpy as np

from training.evaluation.cost import median_ms


def test_time_is_that_of_one_call() -> None:
    """A call that takes ten times as long takes several times as many milliseconds."""

    def slow(seconds: float) -> float:
        def upscaler(lr: np.ndarray) -> np.ndarray:
            time.sleep(seconds)
            return lr

        return median_ms(upscaler, np.zeros((8, 8), np.uint8), repeats=3, warm_ups=1)

    assert slow(0.02) > 3 * slow(0.002)
