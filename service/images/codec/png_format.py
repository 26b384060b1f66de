"""What the PNG reader and the PNG writer share: the signature and the framing of a chunk."""

import struct

from service.images.codec.deflate import crc32

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def framed_chunk(kind: bytes, data: bytes | memoryview) -> bytes:
    """Return one whole chunk: length, type, data, CRC."""
    crc = crc32(data, crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", crc)))
