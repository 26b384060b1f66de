"""The decompressors of a TIFF's strips and tiles: one function each, with bounded output."""

import struct
from collections.abc import Callable

import imagecodecs

from service.ground.errors import InvalidImage
from service.images.codec.deflate import inflate_at_most

NO_COMPRESSION = 1

# No stream grows more than this: PackBits repeats 128 bytes for 2; LZW writes a string of up to
# 4 KiB for 9 bits; deflate 258 bytes for 2 bits; a Zstandard block holds 128 KiB and takes 4 bytes.
MAX_GROWTH = {NO_COMPRESSION: 1, 5: 4096, 8: 1032, 32946: 1032, 32773: 64, 50000: 32_768}


def _lzw(packed: memoryview, limit_bytes: int) -> bytes:
    data = bytes(imagecodecs.lzw_decode(bytes(packed), out=limit_bytes))
    # That decoder continues after a code that is not in its table yet; libtiff does not.
    if data != imagecodecs.tiff_decode(_lzw_file(packed, len(data))).tobytes():
        raise InvalidImage("a strip or tile of the TIFF is damaged LZW data")
    return data


def _lzw_file(packed: memoryview, unpacked_bytes: int) -> bytes:
    """Return a TIFF of one row that holds an LZW strip."""
    values = [
        (256, unpacked_bytes), (257, 1), (258, 8), (259, 5), (262, 1), (273, 8), (277, 1),
        (278, 1), (279, len(packed)),
    ]  # fmt: skip
    padded = bytes(packed) + bytes(-len(packed) % 2)
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in values)
    directory = struct.pack("<H", len(values)) + entries + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 8 + len(padded)) + padded + directory


def _packbits(packed: memoryview, limit_bytes: int) -> bytes:
    return bytes(imagecodecs.packbits_decode(bytes(packed), out=limit_bytes))


def _zstd(packed: memoryview, limit_bytes: int) -> bytes:
    return bytes(imagecodecs.zstd_decode(bytes(packed), out=limit_bytes))


# Each returns at most `limit_bytes` bytes, or raises.
UNPACKERS: dict[int, Callable[[memoryview, int], bytes]] = {
    5: _lzw,
    8: inflate_at_most,
    32946: inflate_at_most,
    32773: _packbits,
    50000: _zstd,
}
