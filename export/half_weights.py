"""Weights stored in half precision: half the bundle's size, still computed in FP32.

The checkpoint's weights are rounded to FP16 once, before any measurement. So torch, the graphs and
the golden tile all use the rounded weights. In a graph, a cast follows each stored weight; runtimes
fold it away when they load the graph.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors import safe_open
from safetensors.torch import save

from models.checkpoint import in_order

MIN_VALUES = 257
"""Fewer values stay in FP32: biases and slopes weigh nothing."""

HALF_MAX = float(np.finfo(np.float16).max)


def half_checkpoint(checkpoint: Path) -> bytes:
    """Return a checkpoint with its weights in FP16.

    Args:
        checkpoint: A safetensors file; its metadata stay.

    Returns:
        A safetensors file, the same bytes for the same checkpoint.

    Raises:
        ValueError: A weight is too large for FP16.
    """
    with safe_open(checkpoint, framework="pt", device="cpu") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    for name, tensor in tensors.items():
        if tensor.numel() < MIN_VALUES or not tensor.is_floating_point():
            continue
        largest = float(tensor.abs().max())
        if largest > HALF_MAX:
            raise ValueError(f"{name} holds {largest:g}, too large for FP16")
        tensors[name] = tensor.half().contiguous()
    return in_order(save(tensors, metadata=metadata))


def store_half(graph: bytes) -> bytes:
    """Store a graph's FP32 weights in FP16, each followed by a cast.

    Args:
        graph: A serialised ONNX model. Weights that FP16 does not hold exactly stay as they are.

    Returns:
        A serialised ONNX model of the same signature and the same values.
    """
    model = onnx.load_from_string(graph)
    stored: list[onnx.TensorProto] = []
    casts: list[onnx.NodeProto] = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= MIN_VALUES:
            with np.errstate(over="ignore"):
                half = values.astype(np.float16)
            if np.array_equal(half.astype(np.float32), values):
                name = f"{tensor.name}_half"
                stored.append(numpy_helper.from_array(half, name))
                casts.append(
                    onnx.helper.make_node(
                        "Cast",
                        [name],
                        [tensor.name],
                        name=f"widen_{tensor.name}",
                        to=onnx.TensorProto.FLOAT,
                    )
                )
                continue
        stored.append(tensor)
    nodes = list(model.graph.node)
    del model.graph.initializer[:]
    del model.graph.node[:]
    model.graph.initializer.extend(stored)
    model.graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)
