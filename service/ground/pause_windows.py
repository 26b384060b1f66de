"""Times of day at which nightly scans pause, and when work is done with these pauses."""

import re
import time
from collections.abc import Callable

_DAY_MIN = 24 * 60
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")
# A stretch is checked again after this time, so that a change of the clock is noticed.
_LONGEST_STEP_MIN = 60
# Work of more than a year is not worth a better estimate.
_MOST_STEPS = 366 * 24 * 4


class PauseWindows:
    """Windows of local time, given as `07:00-19:00,22:30-01:00`."""

    def __init__(
        self,
        text: str = "",
        *,
        clock: Callable[[], float] = time.time,
        local: Callable[[float], time.struct_time] = time.localtime,
    ) -> None:
        """Read the windows.

        Args:
            text: Start and end (excluded) of each window, separated by commas; a window may span
                midnight.
            clock: Seconds since 1970 now.
            local: Local time of seconds since 1970.

        Raises:
            ValueError: The text is malformed, or leaves no time at all.
        """
        self._clock = clock
        self._local = local
        self._paused = [False] * _DAY_MIN
        for part in filter(None, (part.strip() for part in text.split(","))):
            for minute in _minutes(part):
                self._paused[minute] = True
        if all(self._paused):
            raise ValueError(f"{text!r} leaves no time of the day to scan in")

    def now_s(self) -> float:
        """Return the seconds since 1970 by the clock that the windows go by."""
        return self._clock()

    def is_pause_now(self) -> bool:
        """Whether scans pause now."""
        return self._is_paused(self._clock())

    def end_s(self, at_s: float) -> float | None:
        """Return the end of the pause that a time lies in, or None outside a pause.

        Args:
            at_s: Seconds since 1970.
        """
        if not self._is_paused(at_s):
            return None
        return self._skip_pause(at_s)

    def finish_s(self, from_s: float, work_s: float) -> float:
        """Return the time at which work is done that starts at a time and rests in pauses.

        Args:
            from_s: Seconds since 1970.
            work_s: Seconds of work.
        """
        if not any(self._paused):
            return from_s + work_s
        at_s, left_s = from_s, work_s
        for _ in range(_MOST_STEPS):
            at_s = self._skip_pause(at_s)
            step_s = self._stretch_end_s(at_s) - at_s
            if left_s <= step_s:
                return at_s + left_s
            left_s -= step_s
            at_s += step_s
        return at_s + left_s

    def _skip_pause(self, at_s: float) -> float:
        while self._is_paused(at_s):
            at_s = self._stretch_end_s(at_s)
        return at_s

    def _is_paused(self, at_s: float) -> bool:
        return self._paused[self._minute(at_s)]

    def _minute(self, at_s: float) -> int:
        local = self._local(at_s)
        return 60 * local.tm_hour + local.tm_min

    def _stretch_end_s(self, at_s: float) -> float:
        """Return the next time at which a pause may begin or end, at most an hour ahead."""
        minute = self._minute(at_s)
        now = self._paused[minute]
        steps = 1
        while steps < _LONGEST_STEP_MIN and self._paused[(minute + steps) % _DAY_MIN] == now:
            steps += 1
        return at_s - self._local(at_s).tm_sec - at_s % 1 + 60 * steps


def _minutes(window: str) -> list[int]:
    match = _WINDOW.fullmatch(window)
    if match is None:
        raise ValueError(
            f"{window!r} is not a range of times; expected HH:MM-HH:MM, as in 07:00-19:00"
        )
    start = 60 * int(match[1]) + int(match[2])
    end = _DAY_MIN if match[3] is None else 60 * int(match[3]) + int(match[4])
    if start == end:
        raise ValueError(f"{window!r} begins and ends at the same time")
    if end < start:
        end += _DAY_MIN
    return [minute % _DAY_MIN for minute in range(start, end)]
