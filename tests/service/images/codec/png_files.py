"""PNG files for tests, put together by hand from any chunks."""

import struct
import zlib

import numpy as np
import numpy.typing as npt

from service.images.codec import DecodedImage, decode

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}


# First column, first row, column step, row step of Adam7's passes.
ADAM7 = [
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
]  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    """Frame one chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(height: int, width: int, *, depth: int = 8, colour: int = GREY, adam7: int = 0) -> bytes:
    """Frame an IHDR."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, adam7))


def png(*chunks: bytes) -> bytes:
    """Put a PNG together from framed chunks."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def rows_of(samples: npt.NDArray[np.int64], depth: int) -> bytes:
    """Pack (H, W, C) samples into rows with filter 0."""
    height = samples.shape[0]
    flat = samples.reshape(height, -1)
    bits = (flat[..., np.newaxis] >> np.arange(depth - 1, -1, -1)) & 1
    packed = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def image(
    samples: npt.NDArray[np.int64], *, depth: int = 8, colour: int = GREY, adam7: bool = False
) -> tuple[bytes, bytes]:
    """Return the framed IHDR and IDAT of (H, W, C) samples."""
    height, width = samples.shape[:2]
    passes = ADAM7 if adam7 else [(0, 0, 1, 1)]
    data = b"".join(
        rows_of(samples[row::step_y, column::step_x], depth)
        for column, row, step_x, step_y in passes
        if row < height and column < width
    )
    ihdr = header(height, width, depth=depth, colour=colour, adam7=int(adam7))
    return ihdr, chunk(b"IDAT", zlib.compress(data))


def read(body: bytes, max_pixels: int = 10**6) -> DecodedImage:
    """Decode a PNG."""
    return decode(body, "image/png", shape=None, dtype=None, max_pixels=max_pixels)


def small_png() -> bytes:
    """Return a valid PNG of 3×4 pixels."""
    return png(*image(np.arange(12).reshape(3, 4, 1)))
