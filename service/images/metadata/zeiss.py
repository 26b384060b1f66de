"""Zeiss SmartSEM text (TIFF tag 34118, CZ_SEM): pixel size and stored resolution.

After a block of unnamed numbers the text has pairs of lines, a key in capitals and then
`Name = value unit`, in Latin-1 (or UTF-8) with CRLF. `AP_IMAGE_PIXEL_SIZE` is the pixel of the
stored image and wins over the older `AP_PIXEL_SIZE`. The fourth unnamed number is the pixel size of
a display 1024 pixels wide, and readers divide it by the true width themselves: it follows the width
of the field of view, which sampling does not change. A pair that is not understood is dropped.
"""

import re

from service.images.metadata.pixel_size import PixelSize
from service.images.metadata.rewriting import (
    STATES_SIZE,
    Rescaling,
    multiply,
    multiply_count,
    read_length,
    reads_comma,
    replaced,
)

_SIZES = rb"AP_IMAGE_PIXEL_SIZE|AP_PIXEL_SIZE"
# A pair of lines of a known key, or any other line that seems to state the size of a pixel.
_STATEMENT = re.compile(
    rb"^(?:(?P<key>" + _SIZES + rb"|AP_WIDTH|AP_HEIGHT|DP_IMAGE_STORE)[ \t]*\r?\n"
    rb"(?P<name>[^=\r\n]{0,80}=)(?P<value>[^\r\n\0]*)"
    rb"|[^\r\n\0]*?" + STATES_SIZE + rb"[^\r\n\0]*)(?:\r?\n|(?=\0|\Z))",
    re.MULTILINE,
)
_STORE = re.compile(rb"(?P<width>[^*]{1,24})\*(?P<height>[^*]{1,24})")
_DISPLAY_LINE = re.compile(
    rb"\A(?P<before>(?:[-+0-9.,eE \t]*\r?\n){3})(?P<value>[-+0-9.,eE \t]+)(?=\r?\n)"
)


def read_zeiss(text: bytes) -> PixelSize | None:
    """Return the (square) pixel size that the text states, or None."""
    comma = reads_comma(text)
    found = {match["key"]: match["value"] for match in _STATEMENT.finditer(text) if match["key"]}
    value = found.get(b"AP_IMAGE_PIXEL_SIZE", found.get(b"AP_PIXEL_SIZE"))
    length = None if value is None else read_length(value, comma=comma)
    if length is None or length.unit is None:
        return None
    return PixelSize.sane(length.value * length.unit, length.value * length.unit)


def rescale_zeiss(text: bytes, rescaling: Rescaling) -> bytes:
    """Return the text with pixel sizes, field sizes and stored resolution rescaled."""
    comma = reads_comma(text)
    factors = {
        b"AP_IMAGE_PIXEL_SIZE": rescaling.x,
        b"AP_PIXEL_SIZE": rescaling.x,
        b"AP_WIDTH": rescaling.field_x,
        b"AP_HEIGHT": rescaling.field_y,
    }

    def statement(match: re.Match[bytes]) -> bytes:
        key, value = match["key"], match["value"]
        if key is None:
            return b""
        if key == b"DP_IMAGE_STORE":
            new = _rescale_store(value, rescaling.count)
        else:
            new = multiply(value, factors[key], comma=comma, has_unit=True)
        return replaced(match, new)

    display = _DISPLAY_LINE.match(text)
    if display is not None:
        # Not dropped, because the next numbers would move up; tools write 0 for none.
        new = multiply(display["value"], rescaling.field_x, comma=comma) or b"0"
        text = display["before"] + new + text[display.end() :]
    return _STATEMENT.sub(statement, text)


def _rescale_store(value: bytes, factor: float) -> bytes | None:
    match = _STORE.fullmatch(value)
    if match is None:
        return None
    width, height = (multiply_count(match[name], factor) for name in ("width", "height"))
    return None if width is None or height is None else width + b"*" + height
