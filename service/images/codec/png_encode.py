"""PNG out: one fixed filter in NumPy and ISA-L's fastest deflate.

Filter Up for every row: on real SEM tiles at this deflate level it is as small as the better of Up
and Sub within 2 %, and a per-row choice would cost more than the deflate. libpng's default settings
take ten to twenty times as long for 4 to 6 % smaller files.
"""

import struct

import numpy as np

from service.images.codec.deflate import crc32, deflate
from service.images.codec.image import Pixels
from service.images.codec.sniffing import PNG, SIGNATURES
from service.images.metadata import ImageMetadata
from service.images.metadata.png import png_chunks

[SIGNATURE] = SIGNATURES[PNG]
_UP = 2
_GREY = 0


def encode_png(pixels: Pixels, metadata: ImageMetadata) -> bytes:
    """Encode (H, W) uint8 or uint16 as a grey PNG of the same depth."""
    height, width = pixels.shape
    depth = pixels.dtype.itemsize * 8
    header = struct.pack(">IIBBBBB", width, height, depth, _GREY, 0, 0, 0)
    parts = [SIGNATURE, framed_chunk(b"IHDR", header)]
    parts += [framed_chunk(chunk.kind, chunk.data) for chunk in png_chunks(metadata)]
    packed = deflate(_filtered(pixels))
    parts += [framed_chunk(b"IDAT", packed), framed_chunk(b"IEND", b"")]
    return b"".join(parts)


def framed_chunk(kind: bytes, data: bytes | memoryview) -> bytes:
    """Return one whole chunk: length, type, data, CRC."""
    crc = crc32(data, crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", crc)))


def _filtered(pixels: Pixels) -> memoryview:
    """Return the rows with filter Up: every byte minus the byte above it, modulo 256."""
    height = pixels.shape[0]
    # PNG is big-endian and filters bytes, not samples.
    rows = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">"), copy=False))
    samples = rows.view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, samples.shape[1] + 1), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = samples[0]
    np.subtract(samples[1:], samples[:-1], out=filtered[1:, 1:])
    return filtered.data.cast("B")
