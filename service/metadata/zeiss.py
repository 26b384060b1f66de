"""Zeiss SmartSEM text (TIFF tag 34118, CZ_SEM): pixel size and stored resolution.

After a block of unnamed numbers the text has pairs of lines, a key in capitals and then
`Name = value unit`, in Latin-1 with CRLF. `AP_IMAGE_PIXEL_SIZE` is the pixel of the stored image
and wins over the older `AP_PIXEL_SIZE`. The unnamed numbers are left alone on purpose: the fourth
is the pixel size of a display 1024 pixels wide, and readers divide it by the true width themselves.
"""

import re

from service.metadata.pixel_size import PixelSize, unit_in_nm
from service.metadata.rewriting import (
    COUNT,
    NUMBER,
    Rescaling,
    multiply,
    multiply_count,
    read_number,
    replace_group,
)

_LENGTH = re.compile(
    rb"^(?P<key>AP_IMAGE_PIXEL_SIZE|AP_PIXEL_SIZE|AP_WIDTH|AP_HEIGHT)[ \t]*\r?\n"
    rb"[^=\r\n]{0,80}=[ \t]{0,8}(?P<number>"
    + NUMBER
    + rb")[ \t]{0,8}(?P<unit>[A-Za-z\xb5\xc5]{1,8})",
    re.MULTILINE,
)
_STORE = re.compile(
    rb"^DP_IMAGE_STORE[ \t]*\r?\n[^=\r\n]{0,80}=[ \t]{0,8}"
    rb"(?P<width>" + COUNT + rb")(?P<between>[ \t]{0,8}\*[ \t]{0,8})(?P<height>" + COUNT + rb")",
    re.MULTILINE,
)


def read_zeiss(text: bytes) -> PixelSize | None:
    """Return the (square) pixel size that the text states, or None."""
    found = {match["key"]: match for match in _LENGTH.finditer(text)}
    match = found.get(b"AP_IMAGE_PIXEL_SIZE") or found.get(b"AP_PIXEL_SIZE")
    if match is None:
        return None
    unit_nm = unit_in_nm(match["unit"].decode("latin-1"))
    if unit_nm is None:
        return None
    value_nm = read_number(match["number"]) * unit_nm
    return PixelSize.sane(value_nm, value_nm)


def rescale_zeiss(text: bytes, rescaling: Rescaling) -> bytes:
    """Return the text with pixel sizes, field sizes and stored resolution rescaled."""
    factors = {
        b"AP_IMAGE_PIXEL_SIZE": rescaling.x,
        b"AP_PIXEL_SIZE": rescaling.x,
        b"AP_WIDTH": rescaling.field_x,
        b"AP_HEIGHT": rescaling.field_y,
    }

    def length(match: re.Match[bytes]) -> bytes:
        return replace_group(match, "number", multiply(match["number"], factors[match["key"]]))

    def store(match: re.Match[bytes]) -> bytes:
        size = (
            multiply_count(match["width"], rescaling.count)
            + match["between"]
            + multiply_count(match["height"], rescaling.count)
        )
        return match[0][: match.start("width") - match.start()] + size

    return _STORE.sub(store, _LENGTH.sub(length, text))
