"""How fast a scan goes now."""

from collections import deque

_OVER_S = 300.0
_EVERY_S = 1.0
# Before that a few tiles that were nearly done would promise too much.
_AT_LEAST_S = 3.0


class RateMeter:
    """Tiles a second over the last minutes of one run."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, at_s: float, ended: int) -> None:
        """Note how many tiles have ended, well or not.

        Args:
            at_s: `time.monotonic()`.
            ended: Tiles in all.
        """
        if self._samples and at_s - self._samples[-1][0] < _EVERY_S:
            return
        self._samples.append((at_s, ended))
        while self._samples[0][0] < at_s - _OVER_S:
            self._samples.popleft()

    def tiles_per_s(self) -> float | None:
        """Return the rate; None where it is not known yet."""
        if not self._samples:
            return None
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        if last_s - first_s < _AT_LEAST_S or last == first:
            return None
        return (last - first) / (last_s - first_s)
