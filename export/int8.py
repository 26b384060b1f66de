"""FP32 graph to INT8: static QDQ of the body's convolutions, as many of them as quality allows.

Weights are quantised by channel, activations by tensor, and training LR tiles set the ranges. The
first and the last convolution, the grain and everything after stay in FP32. If the whole body does
not reach the required PSNR, the costliest convolutions return to FP32 one by one until it does. The
manifest records the choice.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

# ONNX Runtime's wheels send usage reports over the network unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from bundle_format.bundle import psnr_db

Tile = npt.NDArray[np.uint8]

MIN_CHANNELS = 16
"""A convolution of the body takes and gives more channels than this; the grain's colour not."""

MIN_TILES = 4
"""Half of the calibration tiles set the ranges, the other half judge."""


class QuantizationError(Exception):
    """A graph cannot be quantised well enough, or there are too few calibration tiles."""


@dataclass(frozen=True)
class Quantized:
    """An INT8 graph and how it came about.

    Attributes:
        graph: Serialised ONNX with QuantizeLinear and DequantizeLinear nodes.
        quantized: Convolutions that run in INT8, by node name.
        kept: Convolutions of the body that stay in FP32, the costliest first.
        psnr_db: PSNR against FP32: the lowest among that of all judging tiles together and those of
            the single extreme tiles.
        tiles: Number of tiles that set the ranges.
    """

    graph: bytes
    quantized: tuple[str, ...]
    kept: tuple[str, ...]
    psnr_db: float
    tiles: int


def quantize(
    graph: bytes, tiles: Sequence[Tile], *, extremes: Sequence[Tile], min_psnr_db: float
) -> Quantized:
    """Quantise the body of a graph.

    Args:
        graph: Graph that `to_onnx` gave.
        tiles: Training LR tiles, (H, W) uint8, all of one size; never test tiles.
        extremes: Tiles of that size that widen the ranges to every grey. Each is judged by itself:
            an all-white tile must come out white.
        min_psnr_db: PSNR that must be reached against FP32.

    Raises:
        QuantizationError: Fewer than `MIN_TILES`, tiles of several sizes, a graph without a body,
            or one that stays below `min_psnr_db` with a single quantised convolution.
    """
    shapes = {tile.shape for tile in tiles}
    if len(tiles) < MIN_TILES or len(shapes) != 1:
        raise QuantizationError(
            f"INT8 needs at least {MIN_TILES} calibration tiles of one size, got {len(tiles)} "
            f"of the sizes {sorted(shapes)}"
        )
    body = body_convolutions(onnx.load_from_string(graph))
    if not body:
        raise QuantizationError("the graph has no convolutions that could be quantised")
    ranges = [*calibration_tiles(tiles), *extremes]
    judged = [judging_tiles(tiles), *([tile] for tile in extremes)]
    expected = [_answers(graph, group) for group in judged]

    def attempt(names: Sequence[str]) -> tuple[bytes, float]:
        candidate = _quantize(graph, names, ranges)
        answers = [_answers(candidate, group) for group in judged]
        return candidate, min(psnr_db(a, b) for a, b in zip(answers, expected, strict=True))

    candidate, reached_db = attempt(body)
    kept: list[str] = []
    if reached_db < min_psnr_db:
        # Costliest first: what one convolution alone does to the picture.
        alone = {name: attempt([name])[1] for name in body}
        for name in sorted(body, key=lambda name: alone[name]):
            kept.append(name)
            rest = [other for other in body if other not in kept]
            if not rest:
                raise QuantizationError(
                    f"no convolution can be quantised within {min_psnr_db:.1f} dB of FP32; "
                    f"the best one alone gives {max(alone.values()):.1f} dB"
                )
            candidate, reached_db = attempt(rest)
            if reached_db >= min_psnr_db:
                break
    return Quantized(
        graph=candidate,
        quantized=tuple(name for name in body if name not in kept),
        kept=tuple(kept),
        psnr_db=reached_db,
        tiles=len(calibration_tiles(tiles)),
    )


def calibration_tiles(tiles: Sequence[Tile]) -> Sequence[Tile]:
    """Return the half of the tiles that sets the ranges."""
    return tiles[::2]


def judging_tiles(tiles: Sequence[Tile]) -> Sequence[Tile]:
    """Return the other half of the tiles, on which the PSNR is measured."""
    return tiles[1::2]


def body_convolutions(model: onnx.ModelProto) -> list[str]:
    """Name, in order, the convolutions between many channels that feed another such layer.

    The last convolution makes grey levels, where the error of eight bits would be visible.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    names: list[str] = []
    # What a later convolution of many channels is made from; nodes are in the order of computation.
    used_later: set[str] = set()
    for node in reversed(model.graph.node):
        is_used = not used_later.isdisjoint(node.output)
        if node.op_type == "Conv":
            outputs, inputs = shapes[node.input[1]][:2]
            if is_used and min(outputs, inputs) > MIN_CHANNELS:
                names.append(node.name)
            is_used = is_used or inputs > MIN_CHANNELS
        if is_used:
            used_later.update(node.input)
    return names[::-1]


class _Reader(CalibrationDataReader):
    def __init__(self, tiles: Sequence[Tile]) -> None:
        self._tiles: Iterator[Tile] = iter(tiles)

    def get_next(self) -> Any:  # noqa: ANN401 - a dictionary, or None at the end
        """Return the next tile as the graph's input, or None at the end."""
        tile = next(self._tiles, None)
        return None if tile is None else {"lr": tile[None, None]}


def _quantize(graph: bytes, names: Sequence[str], tiles: Sequence[Tile]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(graph)
        quantize_static(
            source,
            target,
            _Reader(tiles),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=list(names),
            calibrate_method=CalibrationMethod.MinMax,
        )
        model = onnx.load(target)
    return model.SerializeToString(deterministic=True)


def _answers(graph: bytes, tiles: Sequence[Tile]) -> npt.NDArray[np.uint8]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return np.concatenate(
        [np.asarray(session.run(["sr"], {"lr": tile[None, None]})[0]) for tile in tiles]
    )
