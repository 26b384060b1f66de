"""The 16-bit graph: the FP32 graph with finer steps at its end, and its comparison with torch.

    … ─> clamp to [0, 1] ─> Mul 255 ─> Round ─> … ─> Cast to uint8      the FP32 graph
    … ─> clamp to [0, 1] ─> Mul 65535 ─> Round ─> … ─> Cast to uint16   the 16-bit graph

Both share their weights (`export.shared_weights`), so that a bundle grows by the graph's nodes.
"""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from bundle_format.bundle import TOLERANCE_16_BIT, Bundle
from engines.protocol import EngineOptions
from engines.sixteen_bit import LEVELS, SixteenBitGraph
from export.cases import Batch, standard_cases
from export.parity import ParityError, ParityRow, Reference, format_rows

GRAPH_16_BIT = "model.16bit.onnx"
"""File of the graph."""

_WHITE = 65_535.0


def to_16_bit(graph: bytes) -> bytes:
    """Make the 16-bit graph of an FP32 graph.

    Args:
        graph: A serialised model of `export.to_onnx`; its weights may be external data.

    Returns:
        The model with the output `sr` uint16, 65535 for white.

    Raises:
        ValueError: The graph does not end as `export.to_onnx` makes it.
    """
    model = onnx.load_from_string(graph)
    nodes = {name: node for node in model.graph.node for name in node.output}
    # Bundles of older exports restore the channel after the cast.
    cast = _back(nodes, nodes[model.graph.output[0].name], until="Cast")
    rounded = _back(nodes, cast, until="Round")
    scaled = nodes[rounded.input[0]]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    if scaled.op_type != "Mul":
        raise ValueError(f"the graph rounds the answer of {scaled.op_type}; expected Mul")
    [index] = [
        i
        for i, name in enumerate(scaled.input)
        if name in constants and numpy_helper.to_array(constants[name]).size == 1
    ]
    white = numpy_helper.from_array(np.array(_WHITE, np.float32), "white_16_bit")
    model.graph.initializer.append(white)
    scaled.input[index] = white.name
    [kind] = [attribute for attribute in cast.attribute if attribute.name == "to"]
    kind.i = TensorProto.UINT16
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT16
    return model.SerializeToString(deterministic=True)


def compare_16_bit(reference: Reference, bundle: Bundle, *, threads: int) -> list[ParityRow]:
    """Compare a bundle's 16-bit graph with FP32 torch.

    Args:
        reference: Answers of the generator that the bundle was made from.
        bundle: Bundle with the graph.
        threads: CPU threads.

    Returns:
        A row for each case, errors in grey levels.

    Raises:
        ParityError: A difference is above `TOLERANCE_16_BIT`; the message holds the table.
        engines.protocol.EngineError: ONNX Runtime refuses the graph.
    """
    manifest = bundle.manifest
    engine = SixteenBitGraph(bundle, EngineOptions(precision="fp32", threads=threads))
    rows = [
        _row(case.name, case.lr, engine, reference.sixteen_bit(case.lr))
        for case in standard_cases(manifest.tile, max_batch_size=manifest.max_batch_size)
    ]
    problems = [
        f"{row.case}: {problem}"
        for row in rows
        if (
            problem := TOLERANCE_16_BIT.problem(
                max_error=row.max_error, mean_error=row.mean_error, psnr_db=row.psnr_db
            )
        )
    ]
    if problems:
        raise ParityError(
            f"16-bit answers are too far from FP32 torch: {'; '.join(problems)}\n"
            f"{format_rows(rows)}"
        )
    return rows


def _row(
    name: str, lr: Batch, engine: SixteenBitGraph, expected: npt.NDArray[np.uint16]
) -> ParityRow:
    count, _, height, width = lr.shape
    actual = np.empty(expected.shape, np.uint16)
    engine.run([tile[0] for tile in lr], [tile[0] for tile in actual])
    error = np.abs(actual.astype(np.int32) - expected) / LEVELS
    mean_square = max(float(np.mean(np.square(error))), 1e-12)
    return ParityRow(
        case=f"{name}, 16 bit",
        engine="onnx",
        precision="fp32",
        shape=(count, height, width),
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        psnr_db=float(10 * np.log10(255.0**2 / mean_square)),
    )


def _back(nodes: dict[str, onnx.NodeProto], node: onnx.NodeProto, *, until: str) -> onnx.NodeProto:
    """Follow first inputs back to a node of a kind."""
    while node.op_type != until:
        if not node.input or node.input[0] not in nodes:
            raise ValueError(f"the graph has no {until} before its answer")
        node = nodes[node.input[0]]
    return node
