"""Measured time of one tile; `models.cost` counts the multiply-adds."""

import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Upscaler = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""(N, 1, h, w) uint8 to (N, 1, s*h, s*w) uint8."""


def median_ms(
    upscaler: Upscaler, lr: NDArray[np.uint8], *, repeats: int = 15, warm_ups: int = 3
) -> float:
    """Return the median time of one tile at batch 1, in milliseconds.

    Args:
        upscaler: Function to time, see `Upscaler`.
        lr: (h, w) uint8.
        repeats: Timed calls.
        warm_ups: Calls before, not timed.
    """
    batch = np.ascontiguousarray(lr[None, None])
    for _ in range(warm_ups):
        upscaler(batch)
    times_s = []
    for _ in range(repeats):
        start = time.perf_counter()
        upscaler(batch)
        times_s.append(time.perf_counter() - start)
    return statistics.median(times_s) * 1000
