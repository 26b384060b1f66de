"""OME-XML (in a TIFF ImageDescription): physical pixel size and image size, by targeted matching.

Only the attributes of `<Pixels …>` and `SamplesPerPixel` of `<Channel …>` are touched. No XML
parser sees the text: no entities, no external references, nothing to expand.
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

_PIXELS = re.compile(rb"<(?:[A-Za-z]{1,16}:)?Pixels[ \t\r\n][^<>]{0,4096}>")
_CHANNEL = re.compile(rb"<(?:[A-Za-z]{1,16}:)?Channel[ \t\r\n][^<>]{0,4096}>")
_LENGTH = re.compile(
    rb"[ \t\r\n](?P<key>PhysicalSize[XY])=(?P<quote>[\"'])(?P<number>" + NUMBER + rb")(?P=quote)"
)
_UNIT = re.compile(rb"[ \t\r\n](?P<key>PhysicalSize[XY])Unit=[\"'](?P<unit>[^\"'<>]{1,24})[\"']")
_COUNT = re.compile(rb"[ \t\r\n](?P<key>Size[XY])=[\"'](?P<count>" + COUNT + rb")[\"']")
_ANY = rb"[^\"'<>]{0,24}"
_DEFAULT_UNIT = "\u00b5m"  # what the OME schema says where no unit is given


def is_ome(text: bytes) -> bool:
    """Tell whether a description looks like OME-XML."""
    return b"<OME" in text[:2048] or b":OME" in text[:2048]


def read_ome(text: bytes) -> PixelSize | None:
    """Return the physical pixel size of the first image, or None."""
    pixels = _PIXELS.search(text)
    if pixels is None:
        return None
    values = {match["key"]: match["number"] for match in _LENGTH.finditer(pixels[0])}
    units = {match["key"]: match["unit"] for match in _UNIT.finditer(pixels[0])}
    sizes_nm: list[float] = []
    for key in (b"PhysicalSizeX", b"PhysicalSizeY"):
        unit = units[key].decode("utf-8", "replace") if key in units else _DEFAULT_UNIT
        unit_nm = unit_in_nm(unit)
        if key not in values or unit_nm is None:
            return None
        sizes_nm.append(read_number(values[key]) * unit_nm)
    return PixelSize.sane(*sizes_nm)


def rescale_ome(text: bytes, rescaling: Rescaling) -> bytes:
    """Return the text with the physical pixel sizes and the image sizes rescaled."""

    def length(match: re.Match[bytes]) -> bytes:
        factor = rescaling.x if match["key"].endswith(b"X") else rescaling.y
        return replace_group(match, "number", multiply(match["number"], factor))

    def count(match: re.Match[bytes]) -> bytes:
        return replace_group(match, "count", multiply_count(match["count"], rescaling.count))

    def pixels(match: re.Match[bytes]) -> bytes:
        return _COUNT.sub(count, _LENGTH.sub(length, match[0]))

    return _PIXELS.sub(pixels, text)


def with_layout(text: bytes, *, height: int, width: int, bits: int) -> bytes:
    """Return the text describing one grey image of this size and depth.

    An RGB input becomes one channel, and a 16-bit input may be answered in 8 bits: a reader that
    believes the old numbers would refuse the file.
    """

    def pixels(match: re.Match[bytes]) -> bytes:
        element = match[0]
        for key, value in (
            (b"SizeX", str(width)),
            (b"SizeY", str(height)),
            (b"SizeC", "1"),
            (b"Type", f"uint{bits}"),
            (b"SignificantBits", str(bits)),
            (b"BigEndian", "false"),
            (b"Interleaved", "false"),
        ):
            element = _with_attribute(element, key, value)
        return element

    def channel(match: re.Match[bytes]) -> bytes:
        return _with_attribute(match[0], b"SamplesPerPixel", "1")

    return _CHANNEL.sub(channel, _PIXELS.sub(pixels, text))


def _with_attribute(element: bytes, key: bytes, value: str) -> bytes:
    """Return an element with the value of an attribute replaced where it has that attribute."""
    pattern = rb"(?P<head>[ \t\r\n]" + key + rb"=)(?P<quote>[\"'])" + _ANY + rb"(?P=quote)"

    def attribute(match: re.Match[bytes]) -> bytes:
        return match["head"] + match["quote"] + value.encode("ascii") + match["quote"]

    return re.sub(pattern, attribute, element)
