"""16-bit grey to the engine's 8 bits through a fixed window, and back.

The window is the same for every tile of a wafer, never the tile's own extremes: a defect must not
change the grey of its surroundings. A 16-bit answer is the network's answer stretched over the
window again; it carries as many bits as the network gave, 8 or 16.
"""

import re
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt

from service.ground.errors import BadRequest

_HEADER = re.compile(r"\s*([0-9]{1,5})\s*,\s*([0-9]{1,5})\s*", re.ASCII)
_HIGHEST = 65_535
_LEVELS = 255


# (low, high): `low` and everything below it becomes 0, `high` and everything above it 255.
Window = tuple[int, int]

FULL_RANGE: Window = (0, _HIGHEST)


def parse_window(header: str) -> Window:
    """Read the header `X-Window: lo,hi`.

    Returns:
        (lo, hi), grey levels of a 16-bit image.

    Raises:
        BadRequest: It is not two whole numbers with 0 ≤ lo < hi ≤ 65535.
    """
    match = _HEADER.fullmatch(header)
    if match is None or not int(match[1]) < int(match[2]) <= _HIGHEST:
        raise BadRequest(
            f"X-Window is {header[:60]!r}; expected two grey levels lo,hi with "
            f"0 ≤ lo < hi ≤ {_HIGHEST}, as in 0,4095"
        )
    return int(match[1]), int(match[2])


def to_uint8(
    pixels: npt.NDArray[np.uint8 | np.uint16], window: Window, *, white_is_zero: bool = False
) -> npt.NDArray[np.uint8]:
    """Map 16-bit grey to 8 bits: 255 · (v − low) / (high − low), halves rounded up, clipped.

    Args:
        pixels: (H, W) uint16; uint8 is returned unchanged.
        window: Stored values that become 0 and 255.
        white_is_zero: Whether low values are bright: `low` becomes 255 and `high` 0. Inverting
            16 bits beforehand would turn 12 bits stored in them white throughout.

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: Not 0 ≤ low < high ≤ 65535.
    """
    if pixels.dtype == np.uint8:
        return cast("npt.NDArray[np.uint8]", pixels)
    return np.take(_inverse(window) if white_is_zero else _narrowing(window), pixels)


def to_uint16(pixels: npt.NDArray[np.uint8 | np.uint16], window: Window) -> npt.NDArray[np.uint16]:
    """Stretch grey over a window: low + v · (high − low) / white, halves rounded up.

    `to_uint8` of a stretched 8-bit image gives the same 8 bits back wherever the window has at
    least 256 levels.

    Args:
        pixels: (H, W) uint8, white being 255, or uint16, white being 65535.
        window: Values that 0 and white become.

    Returns:
        (H, W) uint16; of at most 256 different values if `pixels` has 8 bits.

    Raises:
        ValueError: Not 0 ≤ low < high ≤ 65535.
    """
    if pixels.dtype == np.uint8:
        return np.take(_widening(window, _LEVELS), pixels)
    if window == FULL_RANGE:
        return cast("npt.NDArray[np.uint16]", pixels)
    return np.take(_widening(window, _HIGHEST), pixels)


# 64 or 128 KiB a table; a fab uses a handful of windows, and other clients cannot fill the memory.
@lru_cache(maxsize=32)
def _narrowing(window: Window) -> npt.NDArray[np.uint8]:
    low, span = _low_and_span(window)
    above = np.clip(np.arange(_HIGHEST + 1, dtype=np.int64) - low, 0, span)
    table = ((2 * _LEVELS * above + span) // (2 * span)).astype(np.uint8)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=32)
def _inverse(window: Window) -> npt.NDArray[np.uint8]:
    table = np.invert(_narrowing(window))
    table.flags.writeable = False
    return table


@lru_cache(maxsize=32)
def _widening(window: Window, white: int) -> npt.NDArray[np.uint16]:
    low, span = _low_and_span(window)
    levels = np.arange(white + 1, dtype=np.int64)
    table = (low + (2 * span * levels + white) // (2 * white)).astype(np.uint16)
    table.flags.writeable = False
    return table


def _low_and_span(window: Window) -> tuple[int, int]:
    low, high = window
    if not 0 <= low < high <= _HIGHEST:
        raise ValueError(f"window {low},{high}; expected 0 ≤ low < high ≤ {_HIGHEST}")
    return low, high - low
