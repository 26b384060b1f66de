"""Thermo Fisher (FEI) texts, and the TESCAN pixel size: INI sections, or XML from Phenom and Titan.

TIFF tags 34680 (FEI_SFEG) and 34682 (FEI_HELIOS) hold INI text: `[Scan] PixelWidth` in metres per
pixel, `[Image] ResolutionX`, `[PrivateFei] DatabarHeight` in pixels. Tag 34683 (FEI_TITAN, also
Phenom) holds XML with `<pixelWidth unit="um">`. Tag 50431 (TESCAN) is read, never written: its text
lies inside a binary record of unknown structure. A line that is not understood is dropped;
XML that states a pixel size in any other way is dropped as a whole.
"""

import re

from service.images.metadata.pixel_size import NM_PER_M, PixelSize, unit_in_nm
from service.images.metadata.rewriting import (
    STATES_SIZE,
    Rescaling,
    multiply,
    multiply_count,
    read_length,
    reads_comma,
    replaced,
    states_size,
    unit_text,
)

_LENGTHS = rb"PixelWidth|PixelHeight|HorFieldsize|VerFieldsize|HFW|VFW"
_COUNTS = rb"ResolutionX|ResolutionY|DatabarHeight|DataBarHeight"
# A line of a known key, or any other that seems to state the size of a pixel.
_LINE = re.compile(
    rb"^(?:[ \t]{0,8}(?:(?P<length>" + _LENGTHS + rb")|(?P<count>" + _COUNTS + rb"))[ \t]{0,8}="
    rb"(?P<value>[^\r\n\0]*)|[^\r\n\0]*?" + STATES_SIZE + rb"[^\r\n\0]*)(?:\r?\n|(?=\0|\Z))",
    re.MULTILINE,
)
_ELEMENT = re.compile(
    rb"<(?P<key>pixelWidth|pixelHeight|databarHeight)(?P<attributes>[ \t\r\n][^<>]{0,200})?>"
    rb"(?P<value>[^<>]{0,200})</(?P=key)[ \t\r\n]{0,8}>"
)
_UNIT = re.compile(rb"[ \t\r\n]unit[ \t\r\n]{0,8}=[ \t\r\n]{0,8}[\"'](?P<unit>[^\"'<>]{1,16})[\"']")
# Any byte that is not printable ASCII ends the value: a binary record follows.
_TESCAN = re.compile(rb"(?P<key>PixelSizeX|PixelSizeY)=(?P<value>[\t -~]*)")


def read_fei(text: bytes) -> PixelSize | None:
    """Return the pixel size of an INI text, `[Scan]` before any other section, or None."""
    comma = reads_comma(text)
    scan = text.find(b"[Scan]")
    if scan >= 0:
        end = text.find(b"\n[", scan)
        values = _lines(text[scan : end + 1 if end >= 0 else len(text)])
        if b"PixelWidth" in values:
            return _metres(values, b"PixelWidth", b"PixelHeight", comma=comma)
    return _metres(_lines(text), b"PixelWidth", b"PixelHeight", comma=comma)


def rescale_fei(text: bytes, rescaling: Rescaling) -> bytes:
    """Return the INI text with pixel sizes, field sizes, resolution and data bar rescaled."""
    comma = reads_comma(text)
    factors = {
        b"PixelWidth": rescaling.x,
        b"PixelHeight": rescaling.y,
        b"HorFieldsize": rescaling.field_x,
        b"HFW": rescaling.field_x,
        b"VerFieldsize": rescaling.field_y,
        b"VFW": rescaling.field_y,
    }

    def line(match: re.Match[bytes]) -> bytes:
        value = match["value"]
        if value is None:
            return b""
        if not value.strip():
            return match[0]  # a key without a value states no size
        if match["count"]:
            new = multiply_count(value, rescaling.count)
        else:
            new = multiply(value, factors[match["length"]], comma=comma)
        return replaced(match, new)

    return _LINE.sub(line, text)


def read_fei_xml(text: bytes) -> PixelSize | None:
    """Return the pixel size of a Titan or Phenom XML text, or None."""
    comma = reads_comma(text)
    sizes_nm: dict[bytes, float] = {}
    for match in _ELEMENT.finditer(text):
        key = match["key"]
        if key == b"databarHeight" or key in sizes_nm:
            continue
        unit = _UNIT.search(match["attributes"] or b"")
        unit_nm = None if unit is None else unit_in_nm(unit_text(unit["unit"]))
        length = read_length(match["value"], comma=comma)
        if unit_nm is None or length is None or length.has_unit:
            return None
        sizes_nm[key] = length.value * unit_nm
    width_nm = sizes_nm.get(b"pixelWidth")
    if width_nm is None:
        return None
    return PixelSize.sane(width_nm, sizes_nm.get(b"pixelHeight", width_nm))


def rescale_fei_xml(text: bytes, rescaling: Rescaling) -> bytes:
    """Return the XML text with pixel sizes and data bar rescaled; empty where it states others."""
    comma = reads_comma(text)
    factors = {b"pixelWidth": rescaling.x, b"pixelHeight": rescaling.y}

    def element(match: re.Match[bytes]) -> bytes:
        if match["key"] == b"databarHeight":
            return replaced(match, multiply_count(match["value"], rescaling.count))
        return replaced(match, multiply(match["value"], factors[match["key"]], comma=comma))

    if states_size(_ELEMENT.sub(b"", text)):
        return b""
    return _ELEMENT.sub(element, text)


def read_tescan(text: bytes) -> PixelSize | None:
    """Return the pixel size of a TESCAN record, or None."""
    values: dict[bytes, bytes] = {}
    for match in _TESCAN.finditer(text):
        values.setdefault(match["key"], match["value"])
    return _metres(values, b"PixelSizeX", b"PixelSizeY", comma=reads_comma(text))


def _lines(text: bytes) -> dict[bytes, bytes]:
    """Return the first value of each key that states a length."""
    values: dict[bytes, bytes] = {}
    for match in _LINE.finditer(text):
        if match["length"] and match["value"].strip():
            values.setdefault(match["length"], match["value"])
    return values


def _metres(
    values: dict[bytes, bytes], key_x: bytes, key_y: bytes, *, comma: bool
) -> PixelSize | None:
    """Return the pixel size from two statements in metres per pixel; the second is optional."""
    if key_x not in values:
        return None
    x = read_length(values[key_x], comma=comma)
    y = read_length(values.get(key_y, values[key_x]), comma=comma)
    if x is None or y is None or x.has_unit or y.has_unit:
        return None
    return PixelSize.sane(x.value * NM_PER_M, y.value * NM_PER_M)
