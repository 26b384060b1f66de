"""FP32 graph to FP16: strongly typed, the body's convolutions in half precision, the rest in FP32.

TensorRT 11 takes the precision from the graph and no longer from a builder flag, so casts stand
where precision changes. First and last convolution, the residual, the grain and everything after
stay in FP32, because rounding there would change grey levels. The converter of ONNX Runtime is not
used: it adds two casts around every existing one and leaves the nodes out of order.
"""

import numpy as np
import onnx
from onnx import numpy_helper

from export.int8 import body_convolutions

HALF_MAX = float(np.finfo(np.float16).max)


def to_fp16(graph: bytes) -> bytes:
    """Put the body of a graph into FP16.

    Args:
        graph: Graph that `to_onnx` gave.

    Returns:
        A serialised ONNX model of the same signature.

    Raises:
        ValueError: The graph has no body of convolutions, or a weight is too large for FP16.
    """
    model = onnx.load_from_string(graph)
    half = _half_nodes(model)
    if not half:
        raise ValueError("the graph has no convolutions that could run in FP16")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    inside = {output for node in model.graph.node if node.name in half for output in node.output}
    nodes: list[onnx.NodeProto] = []
    cast_to: dict[tuple[str, int], str] = {}

    def cast(name: str, kind: int) -> str:
        """Name a value in a type; its Cast is appended where it is first needed."""
        if (name, kind) not in cast_to:
            suffix = "fp16" if kind == onnx.TensorProto.FLOAT16 else "fp32"
            cast_to[name, kind] = f"{name}_{suffix}"
            output = cast_to[name, kind]
            nodes.append(
                onnx.helper.make_node("Cast", [name], [output], name=f"cast_{output}", to=kind)
            )
        return cast_to[name, kind]

    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if node.name in half and name in weights:
                node.input[index] = _half_weight(model, weights[name])
            elif node.name in half and name not in inside:
                node.input[index] = cast(name, onnx.TensorProto.FLOAT16)
            elif node.name not in half and name in inside:
                node.input[index] = cast(name, onnx.TensorProto.FLOAT)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _half_nodes(model: onnx.ModelProto) -> set[str]:
    """Name the body's convolutions and the activations after them."""
    body = set(body_convolutions(model))
    outputs = {node.output[0] for node in model.graph.node if node.name in body}
    return body | {
        node.name
        for node in model.graph.node
        if node.op_type in {"PRelu", "LeakyRelu"} and node.input[0] in outputs
    }


def _half_weight(model: onnx.ModelProto, tensor: onnx.TensorProto) -> str:
    """Name the FP16 copy of a weight, which is made when it is first needed."""
    name = f"{tensor.name}_fp16"
    if all(other.name != name for other in model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        largest = float(np.abs(values).max(initial=0.0))
        if largest > HALF_MAX:
            raise ValueError(f"{tensor.name} holds {largest:g}, too large for FP16")
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), name))
    return name
