"""Rescales statements of lengths inside vendor texts; one that is not understood is dropped.

The texts are untrusted, so nothing here parses XML or INI: every expression is anchored on a
known key, every repetition is bounded or disjoint from what follows, so that matching is linear.
A statement is read to its end (of the line, the element, the attribute) and must be understood to
its end: a number that is multiplied up to its comma would be wrong, and an unchanged one would be
that of the input image. Everything around the number (spacing, unit, line ends, encoding, comma
or point) stays as it was, byte by byte.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from service.images.metadata.pixel_size import unit_in_nm

# With a point, as formats that define their numbers have it (sCAL).
NUMBER = rb"[-+]?(?:[0-9]{1,24}(?:\.[0-9]{0,24})?|\.[0-9]{1,24})(?:[eE][-+]?[0-9]{1,4})?"
COUNT = rb"[0-9]{1,9}"

_VALUE = re.compile(
    rb"(?P<head>\s*)(?P<number>[-+]?(?:[0-9]{1,24}(?:[.,][0-9]{0,24})?|[.,][0-9]{1,24})"
    rb"(?:[eE][-+]?[0-9]{1,4})?)(?P<gap>\s*)(?P<unit>[^0-9\s][^0-9]{0,23})?"
)
_COUNT_VALUE = re.compile(rb"(?P<head>\s*)(?P<count>" + COUNT + rb")(?P<tail>\s*)")
# 4,125 may be four and an eighth, or four thousand: the rest of the text decides.
_MAYBE_GROUPED = re.compile(rb"[-+]?[1-9][0-9]{0,2},[0-9]{3}")
_SURELY_COMMA = re.compile(
    rb"[=>\"'][ \t]{0,8}[-+]?(?:0,[0-9]{1,24}|[0-9]{1,24},(?:[0-9]{1,2}|[0-9]{4,24}))"
    rb"(?:[eE][-+]?[0-9]{1,4})?(?=[ \t]{0,8}(?:[^0-9,. \t]|\Z))"
)
_POINT = re.compile(rb"[=>\"'][ \t]{0,8}[-+]?[0-9]{1,24}\.[0-9]")

# Words by which a free text states a pixel size. They may be misunderstood, so they are dropped.
STATES_SIZE = (
    rb"(?i:(?:pix(?:el)?|vox(?:el)?)s?[ \t_-]{0,3}"
    rb"(?:size|width|height|spacing|pitch|scale|scaling|resolution|dimension)"
    rb"|physicalsize[xy]|(?:pixels?|px)[ \t]{0,2}(?:/|per)[ \t]{0,2}(?:[nu]m|mm|cm|micro|\xc2?\xb5)"
    rb"|(?:[nu]m|mm|\xc2?\xb5m|\xce\xbcm|microns?|met(?:er|re)s?)[ \t]{0,2}(?:/|per)[ \t]{0,2}"
    rb"(?:px|pix)"
    rb"|micron_?(?:bar|marker))"
)
_STATES_SIZE = re.compile(STATES_SIZE)


@dataclass(frozen=True, slots=True)
class Rescaling:
    """Factors by which the statements of a file are multiplied; None drops the statement.

    Attributes:
        x: Factor of widths of a pixel.
        y: Factor of heights of a pixel.
        count: Factor of numbers of pixels (image width and height, data bar, origin).
        field_x: Factor of the width of the whole image; 1 where only the sampling changed.
        field_y: Factor of the height of the whole image.
    """

    x: float | None
    y: float | None
    count: float
    field_x: float | None = 1.0
    field_y: float | None = 1.0

    @property
    def without_sizes(self) -> "Rescaling":
        """The factors for a text whose own pixel size is not understood or differs."""
        field_x = 1.0 if self.field_x == 1.0 else None
        field_y = 1.0 if self.field_y == 1.0 else None
        return Rescaling(None, None, self.count, field_x, field_y)


@dataclass(frozen=True, slots=True)
class Length:
    """A statement that was understood to its end.

    Attributes:
        value: Number of the statement.
        unit: Unit in nanometres, or None without a known unit.
        has_unit: Whether it has a unit.
    """

    value: float
    unit: float | None
    has_unit: bool


def reads_comma(text: bytes) -> bool:
    """Whether a text writes decimal commas: some number has one for certain, and none a point."""
    return _SURELY_COMMA.search(text) is not None and _POINT.search(text) is None


def read_length(value: bytes, *, comma: bool) -> Length | None:
    """Return number and unit of a whole statement, or None where it is not understood to its end.

    Args:
        value: Text after the key.
        comma: Whether the text has decimal commas, see `reads_comma`.
    """
    match = _VALUE.fullmatch(value)
    number = None if match is None else _number(match["number"], comma=comma)
    if match is None or number is None:
        return None
    unit = (match["unit"] or b"").strip()
    return Length(number, unit_in_nm(unit_text(unit)) if unit else None, bool(unit))


def multiply(
    value: bytes, factor: float | None, *, comma: bool, has_unit: bool = False
) -> bytes | None:
    """Return a statement with its number times a factor, in ten significant digits at most.

    Args:
        value: Text after the key.
        factor: Factor of its number.
        comma: Whether the text has decimal commas, see `reads_comma`.
        has_unit: Whether the format writes a unit, which must be known, after the number.

    Returns:
        The statement, or None to drop it: without a factor, or if it is not understood to its
        end. For the factor 1 the unchanged value.
    """
    if factor is not None and abs(factor - 1.0) < 1e-12:
        return value
    match, length = _VALUE.fullmatch(value), read_length(value, comma=comma)
    if factor is None or match is None or length is None or length.has_unit != has_unit:
        return None
    number = length.value
    if not math.isfinite(number * factor) or (has_unit and length.unit is None):
        return None
    text = f"{number * factor:.10g}"
    if b"," in match["number"]:
        text = text.replace(".", ",")
    return value[: match.start("number")] + text.encode("ascii") + value[match.end("number") :]


def multiply_count(value: bytes, factor: float) -> bytes | None:
    """Return a number of pixels times a factor, rounded to a whole number; None to drop it."""
    match = _COUNT_VALUE.fullmatch(value)
    if match is None:
        return None
    return match["head"] + str(round(int(match["count"]) * factor)).encode("ascii") + match["tail"]


def replaced(match: re.Match[bytes], value: bytes | None) -> bytes:
    """Return a statement with another value in place of its group `value`; None drops it."""
    if value is None:
        return b""
    start, end = match.start("value") - match.start(), match.end("value") - match.start()
    return match[0][:start] + value + match[0][end:]


def unit_text(unit: bytes) -> str:
    """Return a unit's characters: UTF-8, or else Latin-1, as older tools write the micro sign."""
    try:
        return unit.decode("utf-8")
    except UnicodeDecodeError:
        return unit.decode("latin-1")


def states_size(text: bytes) -> bool:
    """Whether a text seems to state the size of a pixel."""
    return _STATES_SIZE.search(text) is not None


def without_sizes(text: bytes) -> bytes:
    """Return a free text without the lines that state the size of a pixel."""
    if not states_size(text):
        return text
    # Line by line: one expression over all of them would take the square of a long line's time.
    return b"".join(line for line in text.splitlines(keepends=True) if not states_size(line))


def rewritten(text: bytes, rewrite: Callable[[bytes], bytes]) -> bytes:
    """Return a text rewritten as UTF-8 or Latin-1, in the encoding that it has.

    UTF-16, which some tools write, is decoded meanwhile, and dropped if it has NULs. Any other text
    ends at its first NUL, as in C: tools write fixed buffers, with old data after the NUL.
    """
    encoding = _utf16(text)
    if encoding is None:
        body, _, rest = text.partition(b"\0")
        return rewrite(body + b"\0" if rest.strip(b"\0") else text)
    try:
        shown = text[: len(text) // 2 * 2].decode(encoding)
        if "\0" in shown.rstrip("\0"):
            return b""
        return rewrite(shown.encode("utf-8")).decode("utf-8").encode(encoding)
    except UnicodeError:
        return b""


def plain(text: bytes) -> bytes:
    """Return a text as `rewritten` shows it: UTF-16 as UTF-8, all others unchanged."""
    shown: list[bytes] = []
    rewritten(text, lambda body: shown.append(body) or b"")
    return shown[0] if shown else b""


def _utf16(text: bytes) -> str | None:
    """Return the encoding of a text that is UTF-16, with a byte order mark or without."""
    if text[:2] == b"\xff\xfe" or (len(text) >= 4 and not any(text[1:32:2]) and text[0]):
        return "utf-16-le"
    if text[:2] == b"\xfe\xff" or (len(text) >= 4 and not any(text[0:32:2]) and text[1]):
        return "utf-16-be"
    return None


def _number(text: bytes, *, comma: bool) -> float | None:
    if _MAYBE_GROUPED.fullmatch(text) and not comma:
        return None
    return float(text.replace(b",", b"."))
