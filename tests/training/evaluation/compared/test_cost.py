"""Cost: a measured time."""

from types import SimpleNamespace

import numpy as np
import pytest

from training.evaluation.compared import cost
from training.evaluation.compared.cost import median_ms


def test_time_is_that_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The middle one of the timed calls, by a clock that only the calls move."""
    now_s = 0.0
    seconds = iter([9.0, 0.02, 0.5, 0.01])
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: now_s))

    def upscaler(lr: np.ndarray) -> np.ndarray:
        nonlocal now_s
        now_s += next(seconds)
        return lr

    measured = median_ms(upscaler, np.zeros((8, 8), np.uint8), repeats=3, warm_ups=1)

    assert 20.0 == pytest.approx(measured)
