"""Numbers inside vendor texts: matched by bounded expressions, multiplied, written back in place.

The texts come from strangers, so nothing here parses XML or INI: every expression is anchored on a
known key, every repetition is bounded or disjoint from what follows, so that matching is linear.
Everything around the number (spacing, unit, line ends, encoding) stays as it was, byte by byte.
"""

import re
from dataclasses import dataclass

NUMBER = rb"[-+]?(?:[0-9]{1,24}(?:\.[0-9]{0,24})?|\.[0-9]{1,24})(?:[eE][-+]?[0-9]{1,4})?"
COUNT = rb"[0-9]{1,9}"


@dataclass(frozen=True, slots=True)
class Rescaling:
    """Factors by which the statements of a file are multiplied.

    Attributes:
        x: On widths of a pixel.
        y: On heights of a pixel.
        count: On numbers of pixels (image width and height, data bar, origin).
    """

    x: float
    y: float
    count: float

    @property
    def field_x(self) -> float:
        """The factor on the width of the whole image; 1 where only the sampling changed."""
        return self.x * self.count

    @property
    def field_y(self) -> float:
        """The factor on the height of the whole image."""
        return self.y * self.count


def read_number(text: bytes) -> float:
    """Return the value of what `NUMBER` matched."""
    return float(text)


def multiply(text: bytes, factor: float) -> bytes:
    """Return a number times a factor, in at most ten significant digits; untouched for factor 1."""
    if abs(factor - 1.0) < 1e-12:
        return text
    return f"{float(text) * factor:.10g}".encode("ascii")


def multiply_count(text: bytes, factor: float) -> bytes:
    """Return a number of pixels times a factor, rounded to a whole number."""
    return str(round(int(text) * factor)).encode("ascii")


def replace_group(match: re.Match[bytes], group: str, replacement: bytes) -> bytes:
    """Return the whole match with one named group replaced."""
    start, end = match.span(group)
    base = match.start()
    whole = match[0]
    return whole[: start - base] + replacement + whole[end - base :]
