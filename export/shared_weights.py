"""Replaces weights in a bundle's graphs by references to the checkpoint that holds them.

A graph's initializers whose bytes the checkpoint holds become ONNX's external data: a file, an
offset and a length. `bundle_format.inline_weights` puts them back for engines.

Source: ONNX, *External Data*; safetensors, *Format*.
"""

import json

import onnx

MIN_SHARED_BYTES = 512
"""Smaller weights stay in the graph: their entry would be as large."""


def share_weights(graph: bytes, checkpoint: bytes, *, location: str) -> bytes:
    """Replace a graph's weights by references to the checkpoint, where it holds them.

    Args:
        graph: A serialised ONNX model.
        checkpoint: A safetensors file.
        location: File name of the checkpoint, in the graph's folder.

    Returns:
        The model with external data; the same bytes for the same arguments.
    """
    model = onnx.load_from_string(graph)
    places = _places(checkpoint)
    for tensor in model.graph.initializer:
        data = tensor.raw_data
        place = places.get(data) if len(data) >= MIN_SHARED_BYTES else None
        if place is None:
            continue
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", place), ("length", len(data))):
            tensor.external_data.add(key=key, value=str(value))
    return model.SerializeToString(deterministic=True)


def _places(checkpoint: bytes) -> dict[bytes, int]:
    """Map the bytes of each tensor of a safetensors file to their offset in the file."""
    size = int.from_bytes(checkpoint[:8], "little")
    header = json.loads(checkpoint[8 : 8 + size])
    places: dict[bytes, int] = {}
    for name in sorted(name for name in header if name != "__metadata__"):
        start, end = (8 + size + offset for offset in header[name]["data_offsets"])
        places.setdefault(checkpoint[start:end], start)
    return places
