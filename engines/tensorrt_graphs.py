"""Graphs as TensorRT takes them: the answer's cast to uint8 is the last node.

TensorRT takes uint8 at a graph's ends alone. Graphs that were exported before 2026-11-30, such as
those of the shipped bundles, add the channel's axis after the cast.

Source: ONNX, `onnx.proto`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bundle_format.protobuf import NotProtobufError, fields, to_field

# Numbers of fields in onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP_TYPE = 1, 2, 4


@dataclass(frozen=True)
class _Node:
    """A node: its serialised message, and what it computes from what."""

    content: bytes
    op_type: bytes
    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]


def with_cast_last(graph: bytes) -> bytes:
    """Exchange a cast that makes the output `sr` uint8 with the `Unsqueeze` after it.

    Args:
        graph: A serialised ONNX model.

    Returns:
        The same model, computing the same; `graph` itself if it does not end in these two nodes, or
        is not an ONNX model: TensorRT's parser names the fault.
    """
    try:
        return _with_cast_last(graph)
    except NotProtobufError:
        return graph


def _with_cast_last(graph: bytes) -> bytes:
    model = list(fields(graph))
    parts = [
        part for field in model if field.number == _MODEL_GRAPH for part in fields(field.content)
    ]
    nodes = [_node(part.content) for part in parts if part.number == _GRAPH_NODE]
    makers = {output: node for node in nodes for output in node.outputs}
    last = makers.get(b"sr")
    cast = makers.get(last.inputs[0]) if last is not None and last.inputs else None
    if last is None or last.op_type != b"Unsqueeze" or cast is None or cast.op_type != b"Cast":
        return graph
    (between,), (source,) = cast.outputs, cast.inputs
    if sum(between in node.inputs for node in nodes) != 1:
        return graph
    swapped = _renamed(last, inputs={between: source}, outputs={b"sr": between}) + _renamed(
        cast, inputs={source: between}, outputs={between: b"sr"}
    )
    written: list[bytes] = []
    for part in parts:
        if part.number != _GRAPH_NODE or part.content not in (cast.content, last.content):
            written.append(part.whole)
        elif part.content == last.content:
            written.append(swapped)
    return b"".join(
        to_field(_MODEL_GRAPH, b"".join(written)) if field.number == _MODEL_GRAPH else field.whole
        for field in model
    )


def _node(content: bytes) -> _Node:
    parts = list(fields(content))
    return _Node(
        content,
        op_type=b"".join(part.content for part in parts if part.number == _NODE_OP_TYPE),
        inputs=tuple(part.content for part in parts if part.number == _NODE_INPUT),
        outputs=tuple(part.content for part in parts if part.number == _NODE_OUTPUT),
    )


def _renamed(
    node: _Node, *, inputs: Mapping[bytes, bytes], outputs: Mapping[bytes, bytes]
) -> bytes:
    """Return the graph's field of a node with other names of its inputs and outputs."""
    names = {_NODE_INPUT: inputs, _NODE_OUTPUT: outputs}
    return to_field(
        _GRAPH_NODE,
        b"".join(
            to_field(part.number, names[part.number].get(part.content, part.content))
            if part.number in names
            else part.whole
            for part in fields(node.content)
        ),
    )
