# pyright: reportUnknownMemberType=false
# (isal's type stubs leave the data arguments untyped; this is the one file that calls it.)
"""Deflate by ISA-L: fast, and with a hard bound on what a stream may inflate to."""

from isal import isal_zlib

from service.ground.errors import InvalidImage

# Deflate turns at most 258 bytes into 2 bits; no stream grows more than this.
_MAX_RATIO = 1032
_LEVEL = 1  # of ISA-L's 0 to 3: level 0 is larger and no faster, 2 and 3 slower and no smaller


def crc32(data: bytes | memoryview, start: int = 0) -> int:
    """Return the CRC-32 of PNG and zip; `start` is the CRC of the bytes before."""
    return isal_zlib.crc32(data, start)


def deflate(data: memoryview) -> bytes:
    """Return a zlib stream of the data, at the level that suits noisy images."""
    return isal_zlib.compress(data, _LEVEL)


def inflate(packed: bytes | memoryview, expected_bytes: int, what: str) -> bytes:
    """Return the inflated zlib stream, which must have exactly the expected length.

    Inflates at most one byte more than `expected_bytes`, for a stream of any length.

    Args:
        packed: A zlib stream.
        expected_bytes: Length that the data must have.
        what: Name of the data, for messages.

    Raises:
        InvalidImage: Damaged, shorter or longer than expected, or followed by other bytes.
    """
    if len(packed) * _MAX_RATIO < expected_bytes:
        raise InvalidImage(
            f"{what} has {len(packed)} compressed bytes, too few for the {expected_bytes} bytes of "
            "its header"
        )
    try:
        data, surplus = _inflated(packed, expected_bytes + 1)
    except InvalidImage as error:
        raise InvalidImage(f"{what} is damaged: {error.detail}") from error
    if len(data) > expected_bytes:
        raise InvalidImage(f"{what} inflates to more than the {expected_bytes} bytes of its header")
    if len(data) < expected_bytes:
        raise InvalidImage(f"{what} inflates to {len(data)} bytes; expected {expected_bytes}")
    if surplus:
        raise InvalidImage(f"{what} has {len(surplus)} bytes after its end")
    return data


def inflate_at_most(packed: bytes | memoryview, limit_bytes: int) -> bytes:
    """Return the inflated zlib stream, or its first `limit_bytes` bytes.

    Raises:
        InvalidImage: Damaged or truncated.
    """
    return _inflated(packed, limit_bytes)[0]


def _inflated(packed: bytes | memoryview, limit_bytes: int) -> tuple[bytes, bytes]:
    """Return the first inflated bytes, and the bytes that follow the stream if it has ended."""
    stream = isal_zlib.decompressobj()
    try:
        data = stream.decompress(packed, limit_bytes)
    except Exception as error:  # isal's stubs name its own error class as a value
        raise InvalidImage(f"{error} (deflate)") from error
    if len(data) < limit_bytes and not stream.eof:
        raise InvalidImage(f"it is truncated after {len(data)} inflated bytes (deflate)")
    return data, stream.unused_data
