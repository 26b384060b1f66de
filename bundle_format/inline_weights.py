"""Puts the weights that a graph shares with the checkpoint back into the graph.

A bundle stores such weights once, in the checkpoint's file; its graphs refer to them as ONNX's
external data (`export.shared_weights` does that). Any tool that opens a graph by its path finds
them. Engines load a graph from memory, so that the verified bytes are the ones that run. This
module inserts the weights into the serialised protobuf message, because the service has no onnx
package.

Source: ONNX, *External Data* and `onnx.proto`; Protocol Buffers, *Encoding*.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

# Numbers of fields in onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_RAW_DATA = 9
_TENSOR_EXTERNAL_DATA = 13
_TENSOR_DATA_LOCATION = 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

_LOCATION = "location"

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


class SharedWeightsError(ValueError):
    """A graph refers to missing weights, or is not an ONNX model."""


class _Field(NamedTuple):
    """A field of a message: its number, its bytes with the tag, and its content."""

    number: int
    whole: bytes
    content: bytes


def inline_weights(graph: bytes, read: Callable[[str], bytes]) -> bytes:
    """Put the weights that a graph refers to back into it.

    Args:
        graph: A serialised ONNX model.
        read: Function that returns the content of a file that the graph names.

    Returns:
        A serialised ONNX model without external data; `graph` itself if it has none.

    Raises:
        SharedWeightsError: The bytes have external data and are not an ONNX model, or refer to
            bytes beyond a file's end.
    """
    if _LOCATION.encode() not in graph:
        # Every place of external data has this key.
        return graph
    files: dict[str, bytes] = {}

    def file(name: str) -> bytes:
        if name not in files:
            files[name] = read(name)
        return files[name]

    model: list[bytes] = []
    is_changed = False
    for field in _fields(graph):
        if field.number != _MODEL_GRAPH:
            model.append(field.whole)
            continue
        parts: list[bytes] = []
        for part in _fields(field.content):
            whole = part.whole
            if part.number == _GRAPH_INITIALIZER:
                tensor = _inlined(part.content, file)
                if tensor is not None:
                    whole, is_changed = _message(_GRAPH_INITIALIZER, tensor), True
            parts.append(whole)
        model.append(_message(_MODEL_GRAPH, b"".join(parts)))
    return b"".join(model) if is_changed else graph


def _inlined(tensor: bytes, file: Callable[[str], bytes]) -> bytes | None:
    """Return a tensor with its external data inserted; None if it has no external data."""
    entries: dict[str, str] = {}
    kept: list[bytes] = []
    for field in _fields(tensor):
        if field.number == _TENSOR_EXTERNAL_DATA:
            pair = {part.number: part.content for part in _fields(field.content)}
            key, value = (
                pair.get(number, b"").decode("utf-8", "replace")
                for number in (_ENTRY_KEY, _ENTRY_VALUE)
            )
            entries[key] = value
        elif field.number != _TENSOR_DATA_LOCATION:
            kept.append(field.whole)
    if not entries:
        return None
    try:
        name, start, length = entries[_LOCATION], int(entries["offset"]), int(entries["length"])
    except (KeyError, ValueError) as error:
        raise SharedWeightsError(f"external data {entries} lack a place") from error
    content = file(name)
    if start < 0 or length < 0 or start + length > len(content):
        raise SharedWeightsError(
            f"external data at {start} of {length} bytes lie beyond {name}'s {len(content)} bytes"
        )
    kept.append(_message(_TENSOR_RAW_DATA, content[start : start + length]))
    return b"".join(kept)


def _fields(message: bytes) -> Iterator[_Field]:
    """Walk through the fields of a message."""
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
            raise SharedWeightsError(f"not an ONNX model: wire type {kind} at byte {start}")
        if end > len(message):
            raise SharedWeightsError(f"not an ONNX model: a field ends beyond byte {len(message)}")
        yield _Field(tag >> 3, message[start:end], message[content:end])
        start = end


def _varint(message: bytes, start: int) -> tuple[int, int]:
    """Read a varint; returns it and where it ends."""
    value = 0
    for count, byte in enumerate(message[start : start + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if not byte & 0x80:
            return value, start + count + 1
    raise SharedWeightsError(f"not an ONNX model: no varint at byte {start}")


def _message(number: int, content: bytes) -> bytes:
    return _to_varint(number << 3 | _BYTES) + _to_varint(len(content)) + content


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
