"""OME-XML (in a TIFF ImageDescription): physical pixel size and image size, by targeted matching.

Only the attributes of `<Pixels …>` and `SamplesPerPixel` of `<Channel …>` are touched. No XML
parser sees the text: no entities, no external references, nothing to expand. An attribute that is
not understood is dropped; annotations that seem to state a pixel size in their own words are
dropped, and so is a whole text that still states one.
"""

import re

from service.images.metadata.pixel_size import PixelSize, unit_in_nm
from service.images.metadata.rewriting import (
    Rescaling,
    multiply,
    multiply_count,
    read_length,
    replaced,
    states_size,
    unit_text,
)

_PIXELS = re.compile(rb"<(?:[A-Za-z]{1,16}:)?Pixels[ \t\r\n][^<>]{0,4096}>")
_CHANNEL = re.compile(rb"<(?:[A-Za-z]{1,16}:)?Channel[ \t\r\n][^<>]{0,4096}>")
_LENGTH = re.compile(
    rb"[ \t\r\n](?P<key>PhysicalSize[XY])=(?P<quote>[\"'])(?P<value>[^\"'<>]{0,80})(?P=quote)"
)
_UNIT = re.compile(rb"[ \t\r\n](?P<key>PhysicalSize[XY])Unit=[\"'](?P<unit>[^\"'<>]{1,24})[\"']")
_COUNT = re.compile(
    rb"[ \t\r\n](?P<key>Size[XY])=(?P<quote>[\"'])(?P<value>[^\"'<>]{0,80})(?P=quote)"
)
_ANNOTATIONS_BEGIN = re.compile(rb"<(?:[A-Za-z]{1,16}:)?StructuredAnnotations[ \t\r\n>]")
_ANNOTATIONS_END = re.compile(rb"</(?:[A-Za-z]{1,16}:)?StructuredAnnotations[ \t\r\n]{0,8}>")
_ANNOTATION_REF = re.compile(rb"<(?:[A-Za-z]{1,16}:)?AnnotationRef[ \t\r\n][^<>]{0,200}>")
_ANY = rb"[^\"'<>]{0,24}"
_DEFAULT_UNIT = "\u00b5m"  # default of the OME schema


def is_ome(text: bytes) -> bool:
    """Return whether a description looks like OME-XML."""
    return b"<OME" in text[:2048] or b":OME" in text[:2048]


def read_ome(text: bytes) -> PixelSize | None:
    """Return the physical pixel size of the first image, or None."""
    pixels = _PIXELS.search(text)
    if pixels is None:
        return None
    values = {match["key"]: match["value"] for match in _LENGTH.finditer(pixels[0])}
    units = {match["key"]: match["unit"] for match in _UNIT.finditer(pixels[0])}
    sizes_nm: list[float] = []
    for key in (b"PhysicalSizeX", b"PhysicalSizeY"):
        unit_nm = unit_in_nm(unit_text(units[key]) if key in units else _DEFAULT_UNIT)
        length = read_length(values.get(key, b""), comma=False)
        if length is None or length.has_unit or unit_nm is None:
            return None
        sizes_nm.append(length.value * unit_nm)
    return PixelSize.sane(*sizes_nm)


def rescale_ome(text: bytes, rescaling: Rescaling) -> bytes:
    """Return the text with physical pixel sizes and image sizes rescaled."""

    def length(match: re.Match[bytes]) -> bytes:
        factor = rescaling.x if match["key"].endswith(b"X") else rescaling.y
        return replaced(match, multiply(match["value"], factor, comma=False))

    def count(match: re.Match[bytes]) -> bytes:
        return replaced(match, multiply_count(match["value"], rescaling.count))

    def unit(match: re.Match[bytes]) -> bytes:
        return match[0] if rescaling.x is not None and rescaling.y is not None else b""

    def pixels(match: re.Match[bytes]) -> bytes:
        return _COUNT.sub(count, _UNIT.sub(unit, _LENGTH.sub(length, match[0])))

    if states_size(_without_known(text)):
        text = _without_annotations(text)
        if states_size(_without_known(text)):
            return b""
    return _PIXELS.sub(pixels, text)


def _without_annotations(text: bytes) -> bytes:
    """Return the text without its structured annotations and references to them."""
    begin = _ANNOTATIONS_BEGIN.search(text)
    ends = list(_ANNOTATIONS_END.finditer(text))
    if begin is not None and ends and ends[-1].start() > begin.start():
        text = text[: begin.start()] + text[ends[-1].end() :]
    return _ANNOTATION_REF.sub(b"", text)


def _without_known(text: bytes) -> bytes:
    """Return the text without the attributes that `rescale_ome` rewrites, and their elements' name.

    `<Pixels SizeZ=…` reads like the size of a pixel but is not one.
    """

    def others(match: re.Match[bytes]) -> bytes:
        _, _, attributes = match[0].partition(b"Pixels")
        return _UNIT.sub(b"", _LENGTH.sub(b"", attributes))

    return _PIXELS.sub(others, text)


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
