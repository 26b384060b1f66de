"""The 16-bit graph: made from the FP32 graph, compared with torch, refused if it differs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bundle_format.bundle import Bundle, load_bundle
from bundle_format.bundle_writer import write_bundle
from engines.sixteen_bit import LEVELS
from export.parity import ParityError, Reference, summarise
from export.sixteen_bit import GRAPH_16_BIT, compare_16_bit, to_16_bit
from models import load_generator

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"


def with_graph(graph: bytes, path: Path) -> Bundle:
    """The tiny bundle with another 16-bit graph."""
    tiny = load_bundle(TINY_BUNDLE)
    files = {name: tiny.read(name) for name in tiny.manifest.files}
    names = set(type(tiny.manifest).model_fields) - {"files", "format_version"}
    fields = {name: getattr(tiny.manifest, name) for name in names}
    return write_bundle(path, files={**files, GRAPH_16_BIT: graph}, manifest_fields=fields)


def test_it_is_made_from_the_fp32_graph() -> None:
    """The same bytes again; only the last steps and the type of the answer differ."""
    tiny = load_bundle(TINY_BUNDLE)

    made = to_16_bit(tiny.read("model.onnx"))

    assert tiny.read(GRAPH_16_BIT) == made
    eight, sixteen = (onnx.load_from_string(m).graph for m in (tiny.read("model.onnx"), made))
    changed = [a.op_type for a, b in zip(eight.node, sixteen.node, strict=True) if a != b]
    assert {"Mul", "Cast"} == set(changed)
    assert onnx.TensorProto.UINT16 == sixteen.output[0].type.tensor_type.elem_type


def test_it_agrees_with_torch_to_a_step(tmp_path: Path) -> None:
    """The figures that the manifest holds: grey levels, of which a step is a 257th."""
    generator, _ = load_generator(TINY_BUNDLE / "model.safetensors")

    rows = compare_16_bit(Reference(generator), load_bundle(TINY_BUNDLE), threads=1)

    figures = summarise(rows)
    record = load_bundle(TINY_BUNDLE).manifest.sixteen_bit
    assert record is not None
    assert record.parity is not None
    assert figures.max_error <= 2 / LEVELS
    assert (record.parity.tiles, ("onnx",)) == (figures.tiles, figures.engines)


def test_a_graph_that_is_a_little_too_dark_fails_the_gate(tmp_path: Path) -> None:
    """A white of 65500 is wrong by an eighth of a grey level, which no 8-bit gate sees."""
    model = onnx.load_from_string(load_bundle(TINY_BUNDLE).read(GRAPH_16_BIT))
    [white] = [tensor for tensor in model.graph.initializer if tensor.name == "white_16_bit"]
    white.CopyFrom(numpy_helper.from_array(np.array(65_500, np.float32), "white_16_bit"))
    generator, _ = load_generator(TINY_BUNDLE / "model.safetensors")
    bundle = with_graph(model.SerializeToString(), tmp_path / "dark")

    with pytest.raises(
        ParityError, match=r"all white, 16 bit: max error 0\.136, at most 0\.02 grey"
    ):
        compare_16_bit(Reference(generator), bundle, threads=1)


def test_another_graph_is_refused() -> None:
    """Nothing is guessed about a graph that ends otherwise."""
    node = helper.make_node("Identity", ["lr"], ["sr"])
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.UINT8, [1]) for n in ("lr", "sr")]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    with pytest.raises(ValueError, match="the graph has no Cast before its answer"):
        to_16_bit(helper.make_model(graph).SerializeToString())
