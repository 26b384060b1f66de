"""TIFF tags to `ImageMetadata` and back.

A pixel size is taken from the first of: Zeiss, FEI, FEI XML, TESCAN, OME-XML, ImageJ, then the
resolution tags. Vendor tags win because tools overwrite resolution tags with 72 or 96 dpi; a
resolution tag counts only if it is finer than any print (`PRINT_PIXEL_NM`) and no vendor tag states
a size that is not understood. Written: the resolution from the pixel size, and
the carried texts. So are PNG texts that have a TIFF tag.
"""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from service.images.metadata.fei import read_fei, read_fei_xml, read_tescan
from service.images.metadata.image_metadata import Allowance, ImageMetadata, TiffText
from service.images.metadata.imagej import imagej_unit_nm, is_imagej, read_imagej
from service.images.metadata.ome import is_ome, read_ome, with_layout
from service.images.metadata.pixel_size import NM_PER_CM, PixelSize
from service.images.metadata.png import latin1_texts
from service.images.metadata.rewriting import plain
from service.images.metadata.zeiss import read_zeiss

IMAGE_DESCRIPTION = 270
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
SOFTWARE, DATE_TIME, ARTIST, COPYRIGHT = 305, 306, 315, 33432
ZEISS, FEI_SFEG, FEI_HELIOS, FEI_XML, TESCAN = 34118, 34680, 34682, 34683, 50431
_VENDORS = frozenset({ZEISS, FEI_SFEG, FEI_HELIOS, FEI_XML, TESCAN})

# DocumentName, ImageDescription, Make, Model, PageName, Software, DateTime, Artist, HostComputer,
# Copyright, and the vendor texts that can be rewritten. All others are left out.
_CARRIED = frozenset(
    {269, 270, 271, 272, 285, 305, 306, 315, 316, 33432, ZEISS, FEI_SFEG, FEI_HELIOS, FEI_XML}
)
# The tags that `read_tiff_metadata` reads.
TEXT_TAGS = _CARRIED | {TESCAN}

# Tags that state a pixel size, without TESCAN's, whose text lies in a binary record.
_STATING = frozenset({IMAGE_DESCRIPTION, ZEISS, FEI_SFEG, FEI_HELIOS, FEI_XML})
# An instrument's own pixel size, from its first digit that is not 0, whether understood or not.
_VENDORS_SIZE = re.compile(
    rb"(?:AP_(?:IMAGE_)?PIXEL_SIZE[ \t]{0,8}\r?\n[^=\r\n]{0,80}="
    rb"|(?:PixelWidth|PixelSizeX)[ \t]{0,8}=|<pixelWidth[^<>]{0,200}>)[^\r\n<1-9]{0,80}"
    rb"(?P<digits>[1-9][0-9.,]{0,24})"
)
_SAME_DIGITS = 0.002  # half a per cent, in powers of ten

_NONE, _INCH, _CENTIMETRE = 1, 2, 3
_PER_M = {_INCH: 1 / 0.0254, _CENTIMETRE: 100.0}
_SHORT, _RATIONAL = 3, 5
_MAX_LONG = 2**32 - 1


@dataclass(frozen=True, slots=True)
class TiffValue:
    """One tag of an answer, ready to be written little-endian.

    Attributes:
        code: Number of the tag.
        kind: TIFF type.
        count: Number of values of that type.
        value: Bytes of the values.
    """

    code: int
    kind: int
    count: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Resolution:
    """The resolution tags of a file.

    Attributes:
        x: Pixels per unit along a row; 0 where the tag is absent.
        y: Pixels per unit along a column.
        unit: 1 none, 2 inch, 3 centimetre.
    """

    x: float
    y: float
    unit: int


def read_tiff_metadata(
    values: Mapping[int, tuple[int, memoryview]], resolution: Resolution
) -> ImageMetadata:
    """Read the metadata from a TIFF's tags.

    Args:
        values: Type and bytes of each byte-string tag whose number is in `TEXT_TAGS`.
        resolution: Resolution tags.
    """
    allowance = Allowance()
    texts: dict[int, TiffText] = {}
    for code, (kind, value) in sorted(values.items()):
        if allowance.admits(f"TIFF tag {code}", len(value)):
            texts[code] = TiffText(code, kind, bytes(value))
    shown = {
        code: plain(text.value) if code in _STATING else text.value
        for code, text in texts.items()
        if code in _STATING or code == TESCAN
    }
    source, size = _find_pixel_size(shown, resolution)
    if source == "tiff-resolution" and size is not None and _vendor_differs(texts, size):
        source, size = None, None
    return ImageMetadata(
        pixel_size=size,
        pixel_size_source=source,
        tiff_texts=tuple(text for text in texts.values() if text.code in _CARRIED),
        dropped=tuple(allowance.dropped),
    )


def tiff_values(metadata: ImageMetadata, *, height: int, width: int, bits: int) -> list[TiffValue]:
    """Return the metadata tags of an answer, in no particular order."""
    texts = metadata.tiff_texts or _texts_from_png(metadata)
    values: list[TiffValue] = []
    unit_nm, unit = NM_PER_CM, _CENTIMETRE
    for text in texts:
        value = text.value
        if text.code == IMAGE_DESCRIPTION and is_ome(value):
            value = with_layout(value, height=height, width=width, bits=bits)
        if text.code == IMAGE_DESCRIPTION and is_imagej(value):
            imagej_nm = imagej_unit_nm(value)
            if imagej_nm is not None:
                unit_nm, unit = imagej_nm, _NONE
        if text.kind == 2 and not value.endswith(b"\0"):
            value += b"\0"
        values.append(TiffValue(text.code, text.kind, len(value), value))
    if metadata.pixel_size is not None:
        values += _resolution_values(metadata.pixel_size, unit_nm, unit)
    return values


def _find_pixel_size(
    texts: Mapping[int, bytes], resolution: Resolution
) -> tuple[str | None, PixelSize | None]:
    """Return the first pixel size by precedence, and the name of its statement."""
    for source, code, read in (
        ("zeiss", ZEISS, read_zeiss),
        ("fei", FEI_HELIOS, read_fei),
        ("fei", FEI_SFEG, read_fei),
        ("fei", FEI_XML, read_fei_xml),
        ("tescan", TESCAN, read_tescan),
    ):
        size = read(texts[code]) if code in texts else None
        if size is not None:
            return source, size
    description = texts.get(IMAGE_DESCRIPTION, b"")
    if is_ome(description):
        size = read_ome(description)
        if size is not None:
            return "ome", size
    if is_imagej(description):
        size = read_imagej(description, x_per_unit=resolution.x, y_per_unit=resolution.y)
        if size is not None:
            return "imagej", size
    per_m = _PER_M.get(resolution.unit)
    size = None
    if per_m is not None:
        size = PixelSize.from_density(resolution.x * per_m, resolution.y * per_m)
    return (None, None) if size is None else ("tiff-resolution", size)


def _vendor_differs(texts: Mapping[int, TiffText], size: PixelSize) -> bool:
    """Whether a vendor tag states, in a way not understood, another pixel size than this one.

    The same digits mean the same size: 1,125 may be 1.125 or 1125, but not 100.
    """
    for code in sorted(_VENDORS & texts.keys()):
        # Without the NULs of UTF-16, and including the bytes after the end of a text.
        for match in _VENDORS_SIZE.finditer(texts[code].value.replace(b"\0", b"")):
            digits = int(re.sub(rb"[.,]", b"", match["digits"]))
            tens = math.log10(size.x_nm / digits)
            if abs(tens - round(tens)) > _SAME_DIGITS:
                return True
    return False


def _resolution_values(size: PixelSize, unit_nm: float, unit: int) -> list[TiffValue]:
    x_per_unit, y_per_unit = _rational(unit_nm / size.x_nm), _rational(unit_nm / size.y_nm)
    if x_per_unit is None or y_per_unit is None:
        return []
    return [
        TiffValue(X_RESOLUTION, _RATIONAL, 1, x_per_unit),
        TiffValue(Y_RESOLUTION, _RATIONAL, 1, y_per_unit),
        TiffValue(RESOLUTION_UNIT, _SHORT, 1, struct.pack("<H", unit)),
    ]


def _rational(value: float) -> bytes | None:
    """Return a value as two 32-bit integers, or None where they cannot hold it."""
    if not 1 / _MAX_LONG <= value <= _MAX_LONG:
        return None
    # The numerator is the value times the denominator and must fit as well.
    largest = max(1, min(_MAX_LONG, int(_MAX_LONG / max(value, 1.0))))
    ratio = Fraction(value).limit_denominator(largest)
    return struct.pack("<II", ratio.numerator, ratio.denominator)


def _texts_from_png(metadata: ImageMetadata) -> tuple[TiffText, ...]:
    """Return the texts of a PNG that have a TIFF tag of the same meaning."""
    texts = latin1_texts(metadata)
    found: dict[int, str] = {}
    for code, keywords in (
        (IMAGE_DESCRIPTION, ("Description", "Comment", "Title")),
        (272, ("Source",)),
        (SOFTWARE, ("Software",)),
        (ARTIST, ("Author",)),
        (COPYRIGHT, ("Copyright",)),
    ):
        for keyword in keywords:
            if keyword in texts:
                found.setdefault(code, texts[keyword])
    date = _date_time(metadata)
    if date is not None:
        found[DATE_TIME] = date
    return tuple(
        TiffText(code, 2, text.encode("utf-8")) for code, text in found.items() if text.strip("\0")
    )


def _date_time(metadata: ImageMetadata) -> str | None:
    """Return TIFF's form of the first well-formed tIME chunk, or None."""
    for chunk in metadata.png_chunks:
        if chunk.kind == b"tIME" and len(chunk.data) == 7:
            year, *rest = struct.unpack(">HBBBBB", chunk.data)
            month, day, hour, minute, second = rest
            return f"{year:04}:{month:02}:{day:02} {hour:02}:{minute:02}:{second:02}"
    return None
