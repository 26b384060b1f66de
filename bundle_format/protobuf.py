"""Messages of Protocol Buffers, read and written field by field.

The service changes small parts of ONNX graphs without the package onnx.

Source: Protocol Buffers, *Encoding*.
"""

from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


class NotProtobufError(ValueError):
    """The bytes are not a message."""


class Field(NamedTuple):
    """A field of a message: its number, its bytes with the tag, and its content."""

    number: int
    whole: bytes
    content: bytes


def fields(message: bytes) -> Iterator[Field]:
    """Walk through the fields of a message.

    Raises:
        NotProtobufError: The bytes are not a message.
    """
    start = 0
    while start < len(message):
        tag, place = _varint(message, start)
        kind = tag & 7
        if kind == _BYTES:
            length, content = _varint(message, place)
            end = content + length
        elif kind == _VARINT:
            content, (_, end) = place, _varint(message, place)
        elif kind in (_FIXED_64, _FIXED_32):
            content, end = place, place + (8 if kind == _FIXED_64 else 4)
        else:
            raise NotProtobufError(f"wire type {kind} at byte {start}")
        if end > len(message):
            raise NotProtobufError(f"a field ends beyond byte {len(message)}")
        yield Field(tag >> 3, message[start:end], message[content:end])
        start = end


def _varint(message: bytes, start: int) -> tuple[int, int]:
    """Read a varint; returns it and where it ends."""
    value = 0
    for count, byte in enumerate(message[start : start + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if not byte & 0x80:
            return value, start + count + 1
    raise NotProtobufError(f"no varint at byte {start}")


def to_field(number: int, content: bytes) -> bytes:
    """Write a field that holds a message or a string."""
    return _to_varint(number << 3 | _BYTES) + _to_varint(len(content)) + content


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
