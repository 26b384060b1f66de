"""Puts the weights that a graph shares with the checkpoint back into the graph.

A bundle stores such weights once, in the checkpoint's file; its graphs refer to them as ONNX's
external data (`export.shared_weights` does that). Any tool that opens a graph by its path finds
them. Engines load a graph from memory, so that the verified bytes are the ones that run. This
module inserts the weights into the serialised protobuf message, because the service has no onnx
package.

Source: ONNX, *External Data* and `onnx.proto`.
"""

from collections.abc import Callable

from bundle_format.protobuf import NotProtobufError, fields, to_field

# Numbers of fields in onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_RAW_DATA = 9
_TENSOR_EXTERNAL_DATA = 13
_TENSOR_DATA_LOCATION = 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

_LOCATION = "location"


class SharedWeightsError(ValueError):
    """A graph refers to missing weights, or is not an ONNX model."""


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
    try:
        return _with_weights(graph, read)
    except NotProtobufError as error:
        raise SharedWeightsError(f"not an ONNX model: {error}") from error


def _with_weights(graph: bytes, read: Callable[[str], bytes]) -> bytes:
    files: dict[str, bytes] = {}

    def file(name: str) -> bytes:
        if name not in files:
            files[name] = read(name)
        return files[name]

    model: list[bytes] = []
    is_changed = False
    for field in fields(graph):
        if field.number != _MODEL_GRAPH:
            model.append(field.whole)
            continue
        parts: list[bytes] = []
        for part in fields(field.content):
            whole = part.whole
            if part.number == _GRAPH_INITIALIZER:
                tensor = _inlined(part.content, file)
                if tensor is not None:
                    whole, is_changed = to_field(_GRAPH_INITIALIZER, tensor), True
            parts.append(whole)
        model.append(to_field(_MODEL_GRAPH, b"".join(parts)))
    return b"".join(model) if is_changed else graph


def _inlined(tensor: bytes, file: Callable[[str], bytes]) -> bytes | None:
    """Return a tensor with its external data inserted; None if it has no external data."""
    entries: dict[str, str] = {}
    kept: list[bytes] = []
    for field in fields(tensor):
        if field.number == _TENSOR_EXTERNAL_DATA:
            pair = {part.number: part.content for part in fields(field.content)}
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
    kept.append(to_field(_TENSOR_RAW_DATA, content[start : start + length]))
    return b"".join(kept)
