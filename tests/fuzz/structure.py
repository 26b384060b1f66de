"""Where the parts of a file begin and end, so that mutations hit its structure and not just bytes.

Every function takes any bytes at all: what is mutated once is taken apart again before the next
mutation. Only what lies within the body is returned, in order, and parts may lie within others.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

_MAX_PARTS = 400
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 16: 8}


class Part(NamedTuple):
    """A run of bytes that means something.

    Attributes:
        start: Its first byte.
        end: One behind its last.
        is_header: Whether it holds fields rather than pixels.
    """

    start: int
    end: int
    is_header: bool


def parts_of(body: bytes, media_type: str) -> list[Part]:
    """Take a file apart.

    Returns:
        Its chunks, segments, directory entries, strips or rows; at least one, none of them empty.
    """
    found: list[Part] = []
    try:
        for start, end, is_header in _WALKERS[media_type](body):
            if 0 <= start < end <= len(body):
                found.append(Part(start, end, is_header))
            if len(found) == _MAX_PARTS:
                break
    except (struct.error, IndexError, OverflowError):
        pass  # taken apart as far as the damage lets it
    return found or [Part(0, len(body), is_header=True)]


def _png(body: bytes) -> Iterator[tuple[int, int, bool]]:
    yield 0, 8, True
    at = 8
    while at + 12 <= len(body):
        length, kind = struct.unpack_from(">I4s", body, at)
        yield at, at + 12 + length, kind != b"IDAT"
        yield at + 8, at + 8 + length, kind != b"IDAT"
        at += 12 + length


def _jpeg(body: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield segments, and the entropy-coded runs between markers."""
    marks = [match.start() for match in re.finditer(rb"\xff[\x01-\xfe]", body)]
    at = 0
    while at in marks or (at := next((mark for mark in marks if mark >= at), -1)) >= 0:
        marker = body[at + 1]
        length = 0 if 0xD0 <= marker <= 0xD9 else struct.unpack_from(">H", body, at + 2)[0]
        end = at + 2 + length
        yield at, end, True
        following = next((mark for mark in marks if mark >= end), len(body))
        if following > end:
            yield end, following, False
        if following == len(body) or following <= at:
            return
        at = following


def _tiff(body: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield header, directories, their entries, the values outside them, strips and tiles."""
    yield 0, 8, True
    order = "<" if body[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", body, 2)[0] == 43
    link, entry_format = ("Q", "HHQQ") if big else ("I", "HHII")
    (at,) = struct.unpack_from(order + link, body, 8 if big else 4)
    for _ in range(4):
        count_bytes = 8 if big else 2
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), body, at)
        entry_bytes = struct.calcsize(order + entry_format)
        end = at + count_bytes + min(count, 64) * entry_bytes
        yield at, end + (8 if big else 4), True
        tables: dict[int, list[int]] = {}
        for entry in range(at + count_bytes, end, entry_bytes):
            code, kind, values, where = struct.unpack_from(order + entry_format, body, entry)
            yield entry, entry + entry_bytes, True
            size = values * _TYPE_BYTES.get(kind, 1)
            inline = size <= (8 if big else 4)
            start = entry + entry_bytes - (8 if big else 4) if inline else where
            if not inline:
                yield where, where + size, True
            if code in {273, 279, 324, 325} and kind in {3, 4, 16}:
                letter = {3: "H", 4: "I", 16: "Q"}[kind]
                tables[code] = list(
                    struct.unpack_from(f"{order}{min(values, 64)}{letter}", body, start)
                )
        for offsets, lengths in ((273, 279), (324, 325)):
            for start, length in zip(
                tables.get(offsets, []), tables.get(lengths, []), strict=False
            ):
                yield start, start + length, False
        (at,) = struct.unpack_from(order + link, body, end)
        if not at:
            return


def _bmp(body: bytes) -> Iterator[tuple[int, int, bool]]:
    yield 0, 14, True
    start, header_bytes = struct.unpack_from("<II", body, 10)
    yield 14, 14 + header_bytes, True
    yield 14 + header_bytes, start, True
    kind = "<HHHH" if header_bytes == 12 else "<iiHH"
    width, height, _, bits = struct.unpack_from(kind, body, 18)
    stride = (abs(width) * bits + 31) // 32 * 4
    for row in range(min(abs(height), 64)):
        yield start + row * stride, start + (row + 1) * stride, False


def _npy(body: bytes) -> Iterator[tuple[int, int, bool]]:
    yield 0, 8, True
    length_bytes = 2 if body[6:7] == b"\x01" else 4
    length = int.from_bytes(body[8 : 8 + length_bytes], "little")
    end = 8 + length_bytes + length
    yield 8, 8 + length_bytes, True
    yield 8 + length_bytes, end, True
    for word in re.finditer(rb"'[^']*'|[0-9]+|True|False", body[:end]):
        yield word.start(), word.end(), True
    yield end, len(body), False


def _raw(body: bytes) -> Iterator[tuple[int, int, bool]]:
    for start in range(0, len(body), 27):
        yield start, min(start + 27, len(body)), False


_WALKERS: dict[str, Callable[[bytes], Iterator[tuple[int, int, bool]]]] = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/tiff": _tiff,
    "image/bmp": _bmp,
    "application/x-npy": _npy,
    "application/octet-stream": _raw,
}
