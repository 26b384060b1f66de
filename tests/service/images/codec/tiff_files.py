"""TIFF files for tests: by tifffile, and by hand where no library would write them."""

import io
import struct
from typing import Any

import numpy.typing as npt
import tifffile

from service.images.codec import DecodedImage, decode

SHORT, LONG = 3, 4


Tags = dict[int, tuple[int, list[int]]]


def written(pixels: npt.NDArray[Any], **options: Any) -> bytes:
    """Write a TIFF with tifffile."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def page_tags(height: int, width: int, **changes: int) -> Tags:
    """Return the tags of a plain 8-bit page, whose pixels begin where `build` puts them."""
    values = {
        "width": width, "height": height, "bits": 8, "compression": 1, "photometric": 1,
        "samples": 1, "rows_per_strip": height, "strip_bytes": height * width,
    } | changes  # fmt: skip
    codes = {
        "width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262,
        "fill_order": 266, "samples": 277, "rows_per_strip": 278, "strip_bytes": 279,
        "planar": 284, "predictor": 317, "tile_width": 322, "tile_height": 323, "subfile": 254,
        "extra": 338, "format": 339,
    }  # fmt: skip
    return {codes[name]: (LONG, [value]) for name, value in values.items()}


def build(tags: Tags, data: bytes = b"", *, order: str = "<", link: int = 0) -> bytes:
    """Lay out one directory, its values, then the data; tag 273 points at the data by default."""
    tags = {273: (LONG, [-1])} | tags
    outside_at = 8 + 2 + 12 * len(tags) + 4
    sizes = {SHORT: 2, LONG: 4}
    outside_bytes = sum(
        sizes[kind] * len(values) for kind, values in tags.values() if sizes[kind] * len(values) > 4
    )
    data_at = outside_at + outside_bytes
    directory, outside = b"", b""
    for code, (kind, values) in sorted(tags.items()):
        numbers = [data_at if value == -1 else value for value in values]
        packed = struct.pack(f"{order}{len(numbers)}{'H' if kind == SHORT else 'I'}", *numbers)
        directory += struct.pack(order + "HHI", code, kind, len(numbers))
        if len(packed) > 4:
            directory += struct.pack(order + "I", outside_at + len(outside))
            outside += packed
        else:
            directory += packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(tags))
    return head + directory + struct.pack(order + "I", link) + outside + data


def read(body: bytes, max_pixels: int = 10**6) -> DecodedImage:
    """Decode a TIFF."""
    return decode(body, "image/tiff", shape=None, dtype=None, max_pixels=max_pixels)
