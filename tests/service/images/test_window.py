"""The fixed window between 16-bit grey and the engine's 8 bits."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.ground.errors import BadRequest
from service.images.window import FULL_RANGE, parse_window, to_uint8, to_uint16

LEVELS = st.integers(0, 65535)
WINDOWS = st.lists(LEVELS, min_size=2, max_size=2, unique=True).map(
    lambda pair: (min(pair), max(pair))
)
PIXELS = hnp.arrays(np.uint16, st.tuples(st.integers(1, 8), st.integers(1, 8)))


def half_up(value: Fraction) -> int:
    """Round to the nearest whole number, halves upwards."""
    return int((value + Fraction(1, 2)) // 1)


@settings(deadline=None)
@given(pixels=PIXELS, window=WINDOWS)
def test_narrowing_is_the_exact_formula(
    pixels: npt.NDArray[np.uint16], window: tuple[int, int]
) -> None:
    """255 · (v − low) / (high − low), clipped, halves up, computed with fractions."""
    low, high = window
    expected = [
        [half_up(Fraction(255 * (min(max(int(v), low), high) - low), high - low)) for v in row]
        for row in pixels
    ]

    found = to_uint8(pixels, window)

    assert found.dtype == np.uint8
    assert expected == found.tolist()


@settings(deadline=None)
@given(window=WINDOWS)
def test_widening_is_the_exact_formula(window: tuple[int, int]) -> None:
    """Low + v · (high − low) / 255, halves up; 0 and 255 become the ends of the window."""
    low, high = window
    ramp = np.arange(256, dtype=np.uint8)[np.newaxis]

    found = to_uint16(ramp, window)

    assert found.dtype == np.uint16
    assert [low + half_up(Fraction(v * (high - low), 255)) for v in range(256)] == found[0].tolist()
    assert (low, high) == (found[0, 0], found[0, 255])


@settings(deadline=None)
@given(window=WINDOWS.filter(lambda window: window[1] - window[0] >= 255))
def test_widening_loses_nothing(window: tuple[int, int]) -> None:
    """A 16-bit answer narrowed again by the same window is the 8-bit answer."""
    ramp = np.arange(256, dtype=np.uint8)[np.newaxis]

    np.testing.assert_array_equal(ramp, to_uint8(to_uint16(ramp, window), window))


@settings(deadline=None)
@given(pixels=PIXELS, window=WINDOWS)
def test_narrowing_and_widening_stay_within_half_a_step(
    pixels: npt.NDArray[np.uint16], window: tuple[int, int]
) -> None:
    """Inside the window the way there and back moves a level by half a step and a rounding."""
    low, high = window
    back = to_uint16(to_uint8(pixels, window), window).astype(np.int64)
    inside = np.clip(pixels.astype(np.int64), low, high)

    assert np.abs(back - inside).max() <= (high - low) / 510 + 0.5


@settings(deadline=None)
@given(window=WINDOWS)
def test_brighter_stays_brighter(window: tuple[int, int]) -> None:
    """The map never turns the order of two levels round."""
    ramp = np.arange(65536, dtype=np.uint16)[np.newaxis]

    assert (np.diff(to_uint8(ramp, window).astype(np.int64)) >= 0).all()


@settings(deadline=None)
@given(pixels=PIXELS, window=WINDOWS)
def test_white_is_zero_is_inverted_within_the_window(
    pixels: npt.NDArray[np.uint16], window: tuple[int, int]
) -> None:
    """`low` and below become 255, `high` and above 0."""
    found = to_uint8(pixels, window, white_is_zero=True)

    np.testing.assert_array_equal(255 - to_uint8(pixels, window), found)


def test_full_range_maps_multiples_of_257_exactly() -> None:
    """65535 = 255 · 257: 8-bit grey stored in 16 bits comes out as it was."""
    ramp = np.arange(256, dtype=np.uint8)[np.newaxis]

    np.testing.assert_array_equal(ramp, to_uint8(ramp.astype(np.uint16) * 257, FULL_RANGE))


def test_pixels_need_not_be_in_rows() -> None:
    """Views and read-only bodies are mapped like copies."""
    pixels = np.frombuffer(bytes(range(240)), np.uint16).reshape(10, 12)[::2, ::3]

    np.testing.assert_array_equal(
        to_uint8(np.ascontiguousarray(pixels), (0, 9999)), to_uint8(pixels, (0, 9999))
    )


@pytest.mark.parametrize("window", [(5, 5), (6, 5), (-1, 5), (0, 65536)])
def test_impossible_windows_are_refused(window: tuple[int, int]) -> None:
    """A window without levels, or beyond 16 bits, is a fault of the caller."""
    with pytest.raises(ValueError, match=f"window {window[0]},{window[1]}"):
        to_uint8(np.zeros((1, 1), np.uint16), window)
    with pytest.raises(ValueError, match="expected 0 ≤ low < high ≤ 65535"):
        to_uint16(np.zeros((1, 1), np.uint8), window)


@pytest.mark.parametrize(
    ("header", "expected"),
    [("0,4095", (0, 4095)), (" 100 , 65535 ", (100, 65535)), ("0,1", (0, 1))],
)
def test_header_is_low_then_high(header: str, expected: tuple[int, int]) -> None:
    """Two whole numbers."""
    assert expected == parse_window(header)


@pytest.mark.parametrize(
    "header",
    ["", "4095", "0,65536", "5,5", "9,3", "-1,9", "0.5,9", "a,b", "1,2,3", "\u0661,9", "0,999999"],
)
def test_header_that_is_no_window_is_a_bad_request(header: str) -> None:
    """400, with what came and what was expected."""
    with pytest.raises(BadRequest, match="expected two grey levels lo,hi") as caught:
        parse_window(header)

    assert caught.value.status == 400
