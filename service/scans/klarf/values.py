"""The values of both versions: words and strings, numbers, and references to images."""

import math
from typing import NamedTuple

from service.scans.klarf.document import decoded

STRING = rb'"[^"\r\n]*+"'
_MOST_DIGITS = 19
_SHOWN = 40
MISSING = b"NA"
"""The value of a missing number."""
INTEGER = rb"[-+]?+\d{1,18}+"
"""Pattern of texts that `integer` accepts, though not of all of them."""
NUMBER = rb"[-+]?+(?:\d{1,18}+(?:\.\d{0,18}+)?+|\.\d{1,18}+)(?:[eE][-+]?+0{0,2}+\d{1,2}+)?+"
"""Pattern of texts that `number` accepts, though not of all of them."""


class ImageRef(NamedTuple):
    """A reference from a defect to an image.

    Attributes:
        file: Name of the file as written, or an empty text where the file states none.
        number: Number of the image in the file, from 1, or None.
        kind: Type of the image as written, such as `0` (1.2) or `Patch` (1.8).
    """

    file: str
    number: int | None
    kind: str


def text(value: bytes) -> str:
    """Return a value without its quotes."""
    if len(value) > 1 and value.startswith(b'"') and value.endswith(b'"'):
        value = value[1:-1]
    return decoded(value)


def number(value: bytes) -> float:
    """Return a finite number.

    Raises:
        ValueError: It is not a number.
    """
    try:
        parsed = float(value)
    except ValueError:
        parsed = math.nan
    # Python also reads `1_0`, `nan` and `inf`.
    if not math.isfinite(parsed) or b"_" in value:
        raise ValueError(f"{decoded(value)!r}; expected a number")
    return parsed


def integer(value: bytes) -> int:
    """Return an integer of at most 18 digits.

    Raises:
        ValueError: It is not one.
    """
    if len(value) <= _MOST_DIGITS and b"_" not in value:
        try:
            return int(value)
        except ValueError:
            pass
    raise ValueError(f"{decoded(value[:_SHOWN])!r}; expected an integer")


def quoted(value: str) -> bytes:
    """Return a text as a string of KLARF.

    Raises:
        ValueError: It holds a quote or a control character, for which KLARF has no escape.
    """
    if '"' in value or any(ord(character) < 0x20 for character in value):
        raise ValueError(f"{value!r}; expected a text without quotes and control characters")
    return b'"%s"' % value.encode("utf-8", "surrogateescape")
