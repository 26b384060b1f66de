"""The structure of a TIFF file: header, directories and tag values, every length checked.

No library reads the structure, because an attacker may choose the offsets and counts of a TIFF, and
a general reader follows them. This file touches no pixels. Values are views of the body, taken on
demand, so that a directory with absurd counts costs nothing.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from service.ground.errors import InvalidImage, UnsuitableImage

NEW_SUBFILE_TYPE = 254

_MAX_ENTRIES = 1024

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _LONG8 = 1, 2, 3, 4, 5, 7, 16
_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
    16: 8, 17: 8, 18: 8,
}  # fmt: skip
_INTEGER_CODES = {_BYTE: "u1", _SHORT: "u2", _LONG: "u4", _LONG8: "u8"}
_TEXT_KINDS = frozenset({_BYTE, _ASCII, _UNDEFINED})

# Bit 0: a reduced copy (thumbnail, pyramid level). Bit 2: a transparency mask.
_NOT_AN_IMAGE = 0b101


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag of a directory: its type, its count, and the offset of its value."""

    kind: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class Directory:
    """One page of a TIFF.

    Attributes:
        body: Whole file.
        byte_order: `<` or `>`.
        entries: Tags by number; the first of a number wins.
        span: First byte of the directory itself, and the byte after its last tag.
        tables: Integers in place of a tag's own: for one image of several in a directory, the
            positions of its strips or tiles.
    """

    body: memoryview
    byte_order: str
    entries: dict[int, Entry]
    span: tuple[int, int] = (0, 0)
    tables: Mapping[int, npt.NDArray[np.int64]] = field(
        default_factory=dict[int, npt.NDArray[np.int64]]
    )

    @property
    def is_image(self) -> bool:
        """Whether it is an image, not a reduced copy or a mask of one.

        Raises:
            InvalidImage: The tag that decides is unreadable.
        """
        return not self.integer(NEW_SUBFILE_TYPE, 0) & _NOT_AN_IMAGE

    def value(self, code: int) -> memoryview | None:
        """Return a tag's bytes as a view, or None where absent or beyond the end of the file."""
        entry = self.entries.get(code)
        if entry is None:
            return None
        length = entry.count * _TYPE_BYTES.get(entry.kind, 0)
        if length == 0 or entry.offset + length > len(self.body):
            return None
        return self.body[entry.offset : entry.offset + length]

    def integers(self, code: int, most: int, *, skip: int = 0) -> npt.NDArray[np.int64] | None:
        """Return integers of a tag after the first `skip`, `most` at most; None where absent.

        Raises:
            InvalidImage: The tag holds no integers, or lies beyond the end of the file.
        """
        if code in self.tables:
            return self.tables[code][skip : skip + most]
        entry = self.entries.get(code)
        if entry is None:
            return None
        numpy_code = _INTEGER_CODES.get(entry.kind)
        value = self.value(code)
        if numpy_code is None or value is None:
            raise InvalidImage(
                f"the TIFF's tag {code} (type {entry.kind}, {entry.count} values at byte "
                f"{entry.offset}) holds no integers within the {len(self.body)} bytes of the file"
            )
        dtype = np.dtype(self.byte_order + numpy_code)
        skip = min(skip, entry.count)
        count = min(entry.count - skip, most)
        numbers = (
            np.frombuffer(value, dtype, count, skip * dtype.itemsize)
            if count
            else np.empty(0, dtype)
        )
        if numpy_code == "u8" and (numbers > np.uint64(2**62)).any():
            raise InvalidImage(f"the TIFF's tag {code} holds a number beyond 2^62")
        return numbers.astype(np.int64)

    def integer(self, code: int, default: int | None = None) -> int:
        """Return the one integer of a tag.

        Raises:
            InvalidImage: The tag is absent without a default, unreadable, or has several values,
                about which readers disagree.
        """
        number = self.first_integer(code, default)
        entry = self.entries.get(code)
        if entry is not None and entry.count != 1:
            raise InvalidImage(f"the TIFF's tag {code} has {entry.count} values; expected one")
        return number

    def first_integer(self, code: int, default: int | None = None) -> int:
        """Return the first integer of a tag that may have several.

        Raises:
            InvalidImage: The tag is absent without a default, or unreadable.
        """
        numbers = self.integers(code, 1)
        if numbers is not None:
            return int(numbers[0])
        if default is None:
            raise InvalidImage(f"the TIFF lacks the tag {code}, which an image must have")
        return default

    def rational(self, code: int) -> float:
        """Return a rational tag as a number; 0 where it is absent or invalid."""
        entry, value = self.entries.get(code), self.value(code)
        if entry is None or value is None or entry.kind != _RATIONAL:
            return 0.0
        numerator, denominator = struct.unpack_from(self.byte_order + "II", value)
        return numerator / denominator if denominator else 0.0

    def text(self, code: int) -> tuple[int, memoryview] | None:
        """Return type and bytes of a byte-string tag, or None for another tag."""
        entry, value = self.entries.get(code), self.value(code)
        if entry is None or value is None or entry.kind not in _TEXT_KINDS:
            return None
        return entry.kind, value


def directory_at(body: memoryview, offset: int) -> Directory:
    """Read the directory at an offset, as `walk` found it.

    Raises:
        InvalidImage: It is damaged.
    """
    byte_order, big = _read_header(body)
    entries, end = _read_entries(body, byte_order, offset, big=big)
    return Directory(body, byte_order, entries, (offset, end))


def walk(body: memoryview, *, most: int) -> Iterator[tuple[int, Directory]]:
    """Yield the offset of each directory along the chain, and the directory.

    Args:
        body: Whole file.
        most: Maximum number of directories.

    Raises:
        InvalidImage: The header or a directory is damaged, or the chain is a loop; raised when the
            damage is reached.
        UnsuitableImage: There are more directories than `most`.
    """
    byte_order, big = _read_header(body)
    link = byte_order + ("Q" if big else "I")
    (offset,) = struct.unpack_from(link, body, 8 if big else 4)
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise InvalidImage(f"the TIFF's pages form a loop through byte {offset}")
        if len(seen) >= most:
            raise UnsuitableImage(f"the TIFF holds more than {most} images")
        seen.add(offset)
        entries, end = _read_entries(body, byte_order, offset, big=big)
        yield offset, Directory(body, byte_order, entries, (offset, end))
        if end + struct.calcsize(link) > len(body):
            raise InvalidImage(f"the TIFF is truncated: it ends at byte {len(body)} in a directory")
        (offset,) = struct.unpack_from(link, body, end)


def _read_header(body: memoryview) -> tuple[str, bool]:
    """Return the byte order, and whether it is a BigTIFF."""
    byte_order = {b"II": "<", b"MM": ">"}.get(bytes(body[:2]))
    if byte_order is None or len(body) < 16:
        raise InvalidImage(f"the TIFF ends after {len(body)} bytes, before its first directory")
    (version,) = struct.unpack_from(byte_order + "H", body, 2)
    big = version == 43
    if big and struct.unpack_from(byte_order + "HH", body, 4) != (8, 0):
        raise InvalidImage("the BigTIFF has an unknown offset size; expected 8 bytes")
    if not big and version != 42:
        raise InvalidImage(f"the TIFF has version {version}; expected 42 or 43")
    return byte_order, big


def _read_entries(
    body: memoryview, byte_order: str, offset: int, *, big: bool
) -> tuple[dict[int, Entry], int]:
    """Return the tags of the directory at an offset, and the end of the directory."""
    count_format = byte_order + ("Q" if big else "H")
    first = offset + struct.calcsize(count_format)
    if first > len(body):
        raise InvalidImage(
            f"the TIFF is truncated: a directory should be at byte {offset}, the body has "
            f"{len(body)}"
        )
    (count,) = struct.unpack_from(count_format, body, offset)
    entry_format = struct.Struct(byte_order + ("HHQ8s" if big else "HHI4s"))
    end = first + count * entry_format.size
    if not 1 <= count <= _MAX_ENTRIES or end > len(body):
        raise InvalidImage(
            f"the TIFF's directory at byte {offset} claims {count} tags; expected 1 to "
            f"{_MAX_ENTRIES} within the {len(body)} bytes of the body"
        )
    inline_bytes = 8 if big else 4
    pointer = byte_order + ("Q" if big else "I")
    entries: dict[int, Entry] = {}
    position = first
    for code, kind, values, inline in entry_format.iter_unpack(body[first:end]):
        where = position + entry_format.size - inline_bytes
        if values * _TYPE_BYTES.get(kind, 0) > inline_bytes:
            (where,) = struct.unpack(pointer, inline)
        entries.setdefault(code, Entry(kind, values, where))
        position += entry_format.size
    return entries, end
