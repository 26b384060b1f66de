"""Lot, wafer, die and tool from the names of tiles."""

import time

import pytest

from service.ground.errors import BadRequest
from service.scans.name_pattern import NamePattern


@pytest.mark.parametrize(
    ("pattern", "stem", "facts"),
    [
        ("{lot}_W{wafer}_{die}", "L7_W03_a", {"lot": "L7", "wafer": "03", "die": "a"}),
        ("{lot}_W{wafer}_{die}", "deep/folder/L7_W03_a", {"lot": "L7", "wafer": "03", "die": "a"}),
        ("{lot}/W{wafer}/*", "x/L7/W3/tile", {"lot": "L7", "wafer": "3"}),
        ("{lot}/W{wafer}/*", "x/L7/W3/", {"lot": "L7", "wafer": "3"}),
        ("*_X{die_x}_Y{die_y}", "a_b_X-3_Y4", {"die": "-3,4"}),
        ("{tool}-*-end", "T1-a-b-end", {"tool": "T1"}),
        ("lot{lot}", "lotlot", {"lot": "lot"}),
        # A field is not empty, also where the text after it comes at once.
        ("{lot}_{wafer}", "__a", {"lot": "_", "wafer": "a"}),
        ("{lot}_{wafer}", "_a", None),
        ("{lot}_{wafer}", "a_", None),
        ("{lot}_W{wafer}", "L7", None),
        ("x{lot}", "L7", None),
        ("{lot}x", "L7", None),
        ("{lot}/{wafer}", "W3", None),
        # No field reaches into another folder.
        ("{lot}_{wafer}/a", "L7/W_3/a", {"lot": "W", "wafer": "3"}),
        ("{lot}_{wafer}/*", "L7/W3_4", None),
        ("{lot}.{wafer}", "L+7x3", None),
    ],
)
def test_facts(pattern: str, stem: str, facts: dict[str, str] | None) -> None:
    """The fields of a name that matches, or None."""
    assert facts == NamePattern(pattern).facts(stem)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "has no field"),
        ("*_a", "has no field"),
        ("{lot}{wafer}", "two fields side by side"),
        ("{lot}*", "two fields side by side"),
        ("{slot}_{lot}", r"has {slot}; expected {lot}, {wafer}"),
        ("{}_{lot}", r"has {}; expected"),
        ("{lot}_{lot}", "has a field twice"),
        ("{die_x}", r"expected {die}, or {die_x} and {die_y}"),
        ("{die}_{die_x}_{die_y}", r"expected {die}, or"),
    ],
)
def test_wrong_patterns(pattern: str, message: str) -> None:
    """The message says what a pattern needs."""
    with pytest.raises(BadRequest, match=message):
        NamePattern(pattern)


def test_no_name_takes_long() -> None:
    """A pattern of many fields is compared in one pass."""
    pattern = NamePattern("{lot}a{wafer}a{die}a{tool}a*a*a*a*b")
    started_s = time.process_time()

    assert None is pattern.facts("a" * 200_000)

    # A comparison that goes back would take hours.
    assert time.process_time() - started_s < 5
