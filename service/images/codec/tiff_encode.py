"""TIFF out: little-endian, grey, uncompressed, one strip, then nothing: a copy and a directory.

The pixels come last and begin at a multiple of 16, so that a reader can map them.
"""

import struct

import numpy as np

from service.images.codec.image import Pixels
from service.images.metadata import ImageMetadata
from service.images.metadata.tiff import TiffValue, tiff_values

_SHORT, _LONG = 3, 4
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
_ALIGNMENT_BYTES = 16


def encode_tiff(pixels: Pixels, metadata: ImageMetadata, *, white_is_zero: bool = False) -> bytes:
    """Encode (H, W) uint8 or uint16 as a grey TIFF of the same depth.

    Args:
        pixels: Samples, written unchanged.
        metadata: Metadata to write.
        white_is_zero: Whether 0 is white; see `DecodedImage`.
    """
    height, width = pixels.shape
    bits = pixels.dtype.itemsize * 8
    values = [
        _number(256, _LONG, width),
        _number(257, _LONG, height),
        _number(258, _SHORT, bits),
        _number(259, _SHORT, 1),
        _number(262, _SHORT, _WHITE_IS_ZERO if white_is_zero else _BLACK_IS_ZERO),
        _number(273, _LONG, 0),  # offset of the pixels, known when the directory is laid out
        _number(277, _SHORT, 1),
        _number(278, _LONG, height),
        _number(279, _LONG, pixels.nbytes),
        _number(339, _SHORT, 1),
        *tiff_values(metadata, height=height, width=width, bits=bits),
    ]
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    rows = np.ascontiguousarray(little).data.cast("B")
    return b"".join((_directory(sorted(values, key=lambda value: value.code)), rows))


def _number(code: int, kind: int, number: int) -> TiffValue:
    return TiffValue(code, kind, 1, struct.pack("<H" if kind == _SHORT else "<I", number))


def _directory(values: list[TiffValue]) -> bytes:
    """Return header, directory and the values that do not fit into it, padded."""
    first = 8 + 2 + 12 * len(values) + 4
    position, outside = first, list[bytes]()
    where: dict[int, int] = {}
    for value in values:
        if len(value.value) > 4:
            where[value.code] = position
            padded = value.value + b"\0" * (len(value.value) % 2)
            outside.append(padded)
            position += len(padded)
    pixel_offset = -(-position // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    entries = [
        struct.pack("<HHI", value.code, value.kind, value.count)
        + (
            struct.pack("<I", where[value.code])
            if value.code in where
            else struct.pack("<I", pixel_offset)
            if value.code == 273
            else value.value.ljust(4, b"\0")
        )
        for value in values
    ]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(values)) + b"".join(entries) + b"\0\0\0\0"
    return (head + b"".join(outside)).ljust(pixel_offset, b"\0")
