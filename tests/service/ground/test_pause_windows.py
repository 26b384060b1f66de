"""Times of day at which scans pause, by a clock that is given."""

import time

import pytest

from service.ground.pause_windows import PauseWindows

HOUR_S = 3600
MIDNIGHT_S = 1_764_115_200  # 2025-11-26T00:00:00Z


def windows(text: str) -> PauseWindows:
    """Windows in UTC, in any time zone of this machine."""
    return PauseWindows(text, local=time.gmtime)


def end_h(text: str, at_h: float) -> float | None:
    """When the pause at an hour ends, in hours since midnight."""
    end_s = windows(text).end_s(MIDNIGHT_S + at_h * HOUR_S)
    return None if end_s is None else (end_s - MIDNIGHT_S) / HOUR_S


@pytest.mark.parametrize(
    ("text", "at_h", "expected"),
    [
        ("", 12, None),
        ("07:00-19:00", 6.999, None),
        ("07:00-19:00", 7, 19),
        ("07:00-19:00", 18.999, 19),
        ("07:00-19:00", 19, None),
        ("22:30-01:15", 23, 25.25),
        ("22:30-01:15", 0.5, 1.25),
        ("22:30-01:15", 22.25, None),
        ("07:00-12:00, 12:00-13:30,14:00-15:00", 8, 13.5),
        ("20:00-24:00,00:00-02:00", 21, 26),
    ],
)
def test_a_pause_ends_when_its_window_does(text, at_h, expected):
    """From the first minute to the last, over midnight too; windows that touch are one."""
    assert expected == end_h(text, at_h)


@pytest.mark.parametrize(
    ("from_h", "work_h", "expected_h"),
    [(19, 3, 22), (5, 2, 7), (5, 3, 20), (12, 1, 20), (20, 12, 44), (5, 26, 55)],
)
def test_work_is_done_when_the_pauses_are_added(from_h, work_h, expected_h):
    """With 07:00-19:00 there are twelve hours a day."""
    done_s = windows("07:00-19:00").finish_s(MIDNIGHT_S + from_h * HOUR_S, work_h * HOUR_S)
    assert expected_h == pytest.approx((done_s - MIDNIGHT_S) / HOUR_S)


def test_a_change_of_the_clock_moves_the_end():
    """The night on which clocks go forward at 02:00 has an hour less of seconds in it."""

    def summer_from_two(at_s: float) -> time.struct_time:
        return time.gmtime(at_s + HOUR_S * (at_s >= MIDNIGHT_S + 2 * HOUR_S))

    pause = PauseWindows("00:00-07:00", local=summer_from_two)
    end_s = pause.end_s(MIDNIGHT_S + HOUR_S)
    assert end_s is not None
    assert 6 == (end_s - MIDNIGHT_S) / HOUR_S


@pytest.mark.parametrize(
    "text", ["7-19", "07:00", "25:00-26:00", "07:00-07:00", "07:60-08:00", "00:00-24:00", "x"]
)
def test_windows_that_cannot_be_are_refused(text):
    """A mistyped window must not be taken for none; one that leaves no time is one too."""
    with pytest.raises(ValueError, match=r"time|day"):
        PauseWindows(text)
