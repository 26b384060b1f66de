"""Thermo Fisher (FEI) texts, and the TESCAN pixel size: INI sections, or XML from Phenom and Titan.

TIFF tags 34680 (FEI_SFEG) and 34682 (FEI_HELIOS) hold INI text: `[Scan] PixelWidth` in metres per
pixel, `[Image] ResolutionX`, `[PrivateFei] DatabarHeight` in pixels. Tag 34683 (FEI_TITAN, also
Phenom) holds XML with `<pixelWidth unit="um">`. Tag 50431 (TESCAN) is read, never written: its text
lies inside a binary record whose lengths we do not know.
"""

import re

from service.metadata.pixel_size import NM_PER_M, PixelSize, unit_in_nm
from service.metadata.rewriting import (
    COUNT,
    NUMBER,
    Rescaling,
    multiply,
    multiply_count,
    read_number,
    replace_group,
)

_INI_LENGTH = re.compile(
    rb"^(?P<key>PixelWidth|PixelHeight|HorFieldsize|VerFieldsize|HFW|VFW)[ \t]{0,8}=[ \t]{0,8}"
    rb"(?P<number>" + NUMBER + rb")",
    re.MULTILINE,
)
_INI_COUNT = re.compile(
    rb"^(?:ResolutionX|ResolutionY|DatabarHeight|DataBarHeight)[ \t]{0,8}=[ \t]{0,8}"
    rb"(?P<count>" + COUNT + rb")(?![0-9.eE])",
    re.MULTILINE,
)
_XML_LENGTH = re.compile(
    rb"<(?P<key>pixelWidth|pixelHeight)[ \t\r\n]{1,8}unit=[\"']"
    rb"(?P<unit>[^\"'<>]{1,16})[\"'][ \t]{0,8}>[ \t\r\n]{0,8}(?P<number>" + NUMBER + rb")"
)
_XML_COUNT = re.compile(rb"<databarHeight>[ \t\r\n]{0,8}(?P<count>" + COUNT + rb")(?=[ \t\r\n<])")
_TESCAN = re.compile(rb"(?P<key>PixelSizeX|PixelSizeY)=(?P<number>" + NUMBER + rb")")


def read_fei(text: bytes) -> PixelSize | None:
    """Return the pixel size of an INI text, `[Scan]` before any other section, or None."""
    scan = text.find(b"[Scan]")
    if scan >= 0:
        end = text.find(b"\n[", scan)
        size = _metres(_INI_LENGTH, text[scan : end if end >= 0 else len(text)])
        if size is not None:
            return size
    return _metres(_INI_LENGTH, text)


def rescale_fei(text: bytes, rescaling: Rescaling) -> bytes:
    """Return the INI text with pixel sizes, field sizes, resolution and data bar rescaled."""
    factors = {
        b"PixelWidth": rescaling.x,
        b"PixelHeight": rescaling.y,
        b"HorFieldsize": rescaling.field_x,
        b"HFW": rescaling.field_x,
        b"VerFieldsize": rescaling.field_y,
        b"VFW": rescaling.field_y,
    }

    def length(match: re.Match[bytes]) -> bytes:
        return replace_group(match, "number", multiply(match["number"], factors[match["key"]]))

    return _rescale_counts(_INI_COUNT, _INI_LENGTH.sub(length, text), rescaling)


def read_fei_xml(text: bytes) -> PixelSize | None:
    """Return the pixel size of a Titan or Phenom XML text, or None."""
    sizes_nm: dict[bytes, float] = {}
    for match in _XML_LENGTH.finditer(text):
        unit_nm = unit_in_nm(match["unit"].decode("utf-8", "replace"))
        if unit_nm is not None:
            sizes_nm.setdefault(match["key"], read_number(match["number"]) * unit_nm)
    width_nm = sizes_nm.get(b"pixelWidth")
    if width_nm is None:
        return None
    return PixelSize.sane(width_nm, sizes_nm.get(b"pixelHeight", width_nm))


def rescale_fei_xml(text: bytes, rescaling: Rescaling) -> bytes:
    """Return the XML text with pixel sizes and data bar rescaled."""

    def length(match: re.Match[bytes]) -> bytes:
        factor = rescaling.x if match["key"] == b"pixelWidth" else rescaling.y
        return replace_group(match, "number", multiply(match["number"], factor))

    return _rescale_counts(_XML_COUNT, _XML_LENGTH.sub(length, text), rescaling)


def read_tescan(text: bytes) -> PixelSize | None:
    """Return the pixel size of a TESCAN record, or None."""
    return _metres(_TESCAN, text)


def _metres(pattern: re.Pattern[bytes], text: bytes) -> PixelSize | None:
    """Return the pixel size from the first pair of statements in metres per pixel, or None."""
    sizes_nm: dict[bytes, float] = {}
    for match in pattern.finditer(text):
        sizes_nm.setdefault(match["key"], read_number(match["number"]) * NM_PER_M)
    width_nm = sizes_nm.get(b"PixelWidth", sizes_nm.get(b"PixelSizeX"))
    if width_nm is None:
        return None
    height_nm = sizes_nm.get(b"PixelHeight", sizes_nm.get(b"PixelSizeY", width_nm))
    return PixelSize.sane(width_nm, height_nm)


def _rescale_counts(pattern: re.Pattern[bytes], text: bytes, rescaling: Rescaling) -> bytes:
    def count(match: re.Match[bytes]) -> bytes:
        return replace_group(match, "count", multiply_count(match["count"], rescaling.count))

    return pattern.sub(count, text)
