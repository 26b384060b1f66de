"""ImageJ's TIFF description: `unit=` gives XResolution and YResolution their meaning.

ImageJ writes `ResolutionUnit` 1 (none), pixels per its own unit into the resolution tags, and the
unit into the description. Also here: the one-line JSON with which the tifffile library records an
array's shape, which is wrong as soon as the image has another size.
"""

import re

from service.images.metadata.pixel_size import PixelSize, unit_in_nm
from service.images.metadata.rewriting import Rescaling, multiply, unit_text, without_sizes

_UNIT = re.compile(rb"^unit=(?P<unit>[^\r\n\0]{1,32})\r?$", re.MULTILINE)
_UNITS = re.compile(rb"^[xyz]?unit=[^\r\n\0]*(?:\r?\n|(?=\0|\Z))", re.MULTILINE)
_OTHER_UNIT = re.compile(rb"^yunit=", re.MULTILINE)
_ORIGIN = re.compile(
    rb"^(?P<key>[xy]origin=)(?P<value>[^\r\n\0]*)(?P<end>\r?\n|(?=\0|\Z))", re.MULTILINE
)
_DISPLAY_RANGE = re.compile(rb"^(?:min|max)=[^\r\n]{0,40}(?:\r?\n|\Z)", re.MULTILINE)
# Number of images of the file, wrong for an answer, which holds one.
_STACK = re.compile(
    rb"^(?:images|channels|slices|frames|hyperstack|loop)=[^\r\n]{0,40}(?:\r?\n|\Z)", re.MULTILINE
)
_SHAPE = re.compile(
    rb"\A\{\"shape\": ?\[[0-9, ]{0,160}\](?:, ?)?(?:\"axes\": ?\"[A-Z]{0,16}\"(?:, ?)?)?"
    rb"(?:\"truncated\": ?true(?:, ?)?)?"
)


def is_imagej(text: bytes) -> bool:
    """Return whether a description was written by ImageJ."""
    return text.startswith(b"ImageJ=")


def imagej_unit_nm(text: bytes) -> float | None:
    """Return how many nanometres ImageJ's unit has, or None where it names no length."""
    match = _UNIT.search(text)
    # A separate unit for Y differs from the unit that the resolution tags can be written in.
    if match is None or _OTHER_UNIT.search(text):
        return None
    return unit_in_nm(unit_text(match["unit"]))


def read_imagej(text: bytes, *, x_per_unit: float, y_per_unit: float) -> PixelSize | None:
    """Return the pixel size from the description's unit and the resolution tags, or None."""
    unit_nm = imagej_unit_nm(text)
    if unit_nm is None or not (x_per_unit > 0 and y_per_unit > 0):
        return None
    return PixelSize.sane(unit_nm / x_per_unit, unit_nm / y_per_unit)


def rescale_imagej(text: bytes, rescaling: Rescaling) -> bytes:
    """Return the description of one image with the origin rescaled, without the display range.

    An answer that stated the images of its stack would be read as such a stack. The range
    (`min=`, `max=`) was chosen for the input's grey levels; an 8-bit answer to a 16-bit image would
    be shown black.
    """

    def origin(match: re.Match[bytes]) -> bytes:
        value = multiply(match["value"], rescaling.count, comma=False)
        return b"" if value is None else match["key"] + value + match["end"]

    if imagej_unit_nm(text) is None:
        text = _UNITS.sub(b"", text)  # the resolution tags will be in centimetres, or absent
    text = _STACK.sub(b"", _DISPLAY_RANGE.sub(b"", text))
    return without_sizes(_ORIGIN.sub(origin, text))


def without_shape(text: bytes) -> bytes:
    """Return a tifffile JSON description without its `shape`; empty if that was all."""
    stripped = _SHAPE.sub(b"{", text)
    return b"" if stripped.rstrip(b"\0 \n") == b"{}" else stripped
