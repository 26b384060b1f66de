"""FP16, BF16 and INT8: what is made, what is proven, and what is refused."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from bundle_format.bundle import Bundle, Precision, RecallRecord
from engines.golden import verify_golden
from engines.protocol import EngineError, EngineOptions
from engines.registry import load_engine
from export import exporter, parity
from export.cases import golden_tile
from export.exporter import export_bundle
from export.fp16 import to_fp16
from export.int8 import QuantizationError, body_convolutions, quantize
from export.parity import ParityError
from export.preflight import ExportError
from export.to_onnx import to_onnx
from models import Generator, build_generator, save_network

TILE = (32, 32)


def smooth_generator(*, name: str = "grain_sr", seed: int = 0) -> Generator:
    """A network of four blocks that enlarges and sharpens a little, as a trained one does."""
    torch.manual_seed(seed)
    generator = build_generator(name, {"channels": 24, "num_blocks": 4})
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.004 * torch.randn_like(parameter))
    return generator


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of such a network."""
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.safetensors"
    save_network(path, smooth_generator(), training={})
    return path


@pytest.fixture(scope="module")
def graph() -> bytes:
    """Its FP32 graph."""
    return to_onnx(smooth_generator(), tile=TILE)


def scan_tiles(count: int = 6) -> list[np.ndarray]:
    """Lines with noise, as an inspection scan shows them."""
    rng = np.random.default_rng(2)
    x = np.arange(TILE[1])
    return [
        np.clip(
            90 + 40 * np.sign(np.sin(x / (2 + number))) + rng.normal(0, 5, TILE), 0, 255
        ).astype(np.uint8)
        for number in range(count)
    ]


class FixedRecall:
    """A judge that gives fixed figures and remembers what it was asked."""

    def __init__(self, *, fp32: float, reduced: float) -> None:
        self.record = RecallRecord(fp32=fp32, reduced=reduced, tiles=500, benchmark="b")
        self.asked: list[tuple[str, Precision]] = []

    def __call__(self, bundle: Bundle, precision: Precision) -> RecallRecord:
        """Give the figures."""
        self.asked.append((bundle.manifest.name, precision))
        return self.record


def test_body_is_what_lies_between_first_and_last(graph: bytes):
    """Four blocks, neither head nor tail nor the grain's colour."""
    names = body_convolutions(onnx.load_from_string(graph))
    convolutions = [n.name for n in onnx.load_from_string(graph).graph.node if n.op_type == "Conv"]
    assert len(names) == 4
    assert names == convolutions[1:5]


def test_fp16_graph_is_strongly_typed_and_small(graph: bytes):
    """The body's weights are FP16, two casts bound it, nothing else changes type."""
    half = to_fp16(graph)
    model = onnx.load_from_string(half)
    before = Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)
    after = Counter(node.op_type for node in model.graph.node)
    assert after - before == Counter(Cast=2)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    body = set(body_convolutions(model))
    for node in model.graph.node:
        if node.op_type == "Conv":
            expected = onnx.TensorProto.FLOAT16 if node.name in body else onnx.TensorProto.FLOAT
            assert {kinds[name] for name in node.input[1:]} == {expected}
    assert len(half) < 0.8 * len(graph)
    assert half == to_fp16(graph)


def test_fp16_weight_out_of_range_is_refused():
    """Nearly 70,000 has no FP16; it must not become infinity in silence."""
    generator = smooth_generator(name="rep_sr")
    with torch.no_grad():
        generator.body[1].conv3.bias[0] = 7e4  # pyright: ignore
    with pytest.raises(ValueError, match=r"holds 69999.9, too large for FP16"):
        to_fp16(to_onnx(generator, tile=TILE))


def test_int8_reaches_its_psnr_and_says_how(graph: bytes):
    """The graph holds QDQ nodes for what the record names, and is the same each time."""
    made = quantize(graph, scan_tiles(), extremes=[golden_tile(TILE)[0, 0]], min_psnr_db=45.0)
    assert made.psnr_db >= 45.0
    assert made.tiles == 3
    model = onnx.load_from_string(made.graph)
    body = body_convolutions(onnx.load_from_string(graph))
    assert {*made.quantized, *made.kept} == set(body)
    producers = {node.output[0]: node.op_type for node in model.graph.node}
    for node in model.graph.node:
        if node.op_type == "Conv":
            is_quantized = producers.get(node.input[1]) == "DequantizeLinear"
            assert is_quantized == (node.name in made.quantized)
    again = quantize(graph, scan_tiles(), extremes=[golden_tile(TILE)[0, 0]], min_psnr_db=45.0)
    assert again == made


def convolution(name: str, source: str, inputs: int, outputs: int) -> tuple[Any, Any]:
    """A 1x1 convolution without weights to speak of, and its weights."""
    zeros = np.zeros((outputs, inputs, 1, 1), np.float32)
    weight = numpy_helper.from_array(zeros, f"{name}.w")
    return helper.make_node("Conv", [source, weight.name], [name], name=name), weight


def test_body_reaches_from_the_first_convolution_to_the_last():
    """Those between a U-Net's levels are of it; grain, its share and what makes grey are not."""
    nodes, weights = zip(
        convolution("head", "lr", 1, 32),
        convolution("down", "head", 32, 48),
        convolution("up", "down", 48, 32),
        convolution("tail", "up", 32, 32),
        convolution("share", "down", 48, 1),
        convolution("colour", "noise", 16, 16),
        strict=True,
    )
    graph = helper.make_graph(nodes, "unet", [], [], weights)

    assert ["down", "up"] == body_convolutions(helper.make_model(graph))


def test_fp16_runs_the_activation_between_two_convolutions_in_half_precision():
    """Two casts bound a block with its LeakyRelu, so that a runtime can fuse them."""
    (head, *convolutions), weights = zip(
        convolution("head", "lr", 1, 32),
        convolution("a", "head", 32, 32),
        convolution("b", "act", 32, 32),
        convolution("tail", "b", 32, 16),
        strict=True,
    )
    act = helper.make_node("LeakyRelu", ["a"], ["act"], name="act", alpha=0.1)
    a, b, tail = convolutions
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 4, 4])
        for name, channels in (("lr", 1), ("tail", 16))
    ]
    graph = helper.make_graph([head, a, act, b, tail], "block", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    half = onnx.load_from_string(to_fp16(model.SerializeToString()))

    assert ["Conv", "Cast", "Conv", "LeakyRelu", "Conv", "Cast", "Conv"] == [
        node.op_type for node in half.graph.node
    ]


def test_int8_gives_back_what_costs_most(graph: bytes):
    """Asked for more than the whole body reaches, some convolutions stay in FP32."""
    tiles, extremes = scan_tiles(), [golden_tile(TILE)[0, 0]]
    whole = quantize(graph, tiles, extremes=extremes, min_psnr_db=0.0)
    better = quantize(graph, tiles, extremes=extremes, min_psnr_db=whole.psnr_db + 0.5)
    assert whole.kept == ()
    assert better.kept
    assert better.quantized
    assert better.psnr_db >= whole.psnr_db + 0.5
    with pytest.raises(QuantizationError, match="no convolution can be quantised within 160"):
        quantize(graph, tiles, extremes=extremes, min_psnr_db=160.0)


@pytest.mark.parametrize(
    "tiles", [scan_tiles(3), [*scan_tiles(3), np.zeros((32, 40), dtype=np.uint8)]]
)
def test_int8_refuses_too_little_to_calibrate_with(graph: bytes, tiles: list[np.ndarray]):
    """Three tiles, or tiles of two sizes."""
    with pytest.raises(QuantizationError, match="at least 4 calibration tiles of one size"):
        quantize(graph, tiles, extremes=[], min_psnr_db=45.0)


def test_bundle_with_every_precision(checkpoint: Path, tmp_path: Path):
    """Each is proven, recorded, served and reproducible."""
    pytest.importorskip("openvino")
    judge = FixedRecall(fp32=0.9, reduced=0.895)

    def export(name: str) -> Bundle:
        return export_bundle(
            checkpoint,
            tmp_path / name,
            name="every",
            tile=TILE,
            max_batch_size=2,
            precisions=["fp16", "bf16", "int8"],
            calibration=scan_tiles(),
            recall_judge=judge,
        ).bundle

    try:
        bundle = export("a")
    except EngineError as error:
        pytest.skip(f"this processor has no BF16: {error}")
    manifest = bundle.manifest
    assert set(manifest.graphs) == set(manifest.parity) == {"fp32", "fp16", "bf16", "int8"}
    assert manifest.precision == "fp32"
    assert manifest.graphs["bf16"] == "model.onnx"
    assert manifest.parity["fp16"].max_error <= 2
    assert min(manifest.parity[name].psnr_db for name in ("bf16", "int8")) >= 45
    assert manifest.parity["int8"].engines == ("onnx", "openvino")
    assert manifest.quantization is not None
    assert manifest.quantization.calibration_tiles == 3
    assert manifest.recall["int8"].reduced == 0.895
    assert judge.asked == [("every", "bf16"), ("every", "int8")]
    pairs: list[tuple[Precision, str]] = [
        ("fp16", "onnx"),
        ("int8", "openvino"),
        ("bf16", "openvino"),
    ]
    for precision, name in pairs:
        engine = load_engine(name, bundle, EngineOptions(precision=precision, threads=1))
        assert engine.precision == precision
        verify_golden(engine, bundle)
    assert "int8" in (bundle.path / "MODEL_CARD.md").read_text()
    assert export("b").digest == bundle.digest


def test_reduced_precision_that_misses_defects_is_refused(checkpoint: Path, tmp_path: Path):
    """More than a point of recall lost: no bundle."""
    with pytest.raises(ExportError, match=r"int8 finds 88\.8% .* fp32 90\.0% \(500 tiles\)"):
        export_bundle(
            checkpoint,
            tmp_path / "bundle",
            tile=TILE,
            precisions=["int8"],
            calibration=scan_tiles(),
            recall_judge=FixedRecall(fp32=0.9, reduced=0.888),
        )
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precisions": ["int8"]}, "int8 needs calibration tiles"),
        (
            {"precisions": ["int8"], "calibration": [np.zeros((8, 8), dtype=np.uint8)] * 4},
            r"must be 32x32 like the bundle's, found \[\(8, 8\)\]",
        ),
        (
            {"precisions": ["int8", "bf16"], "calibration": scan_tiles()},
            "bf16 and int8 must find as many defects as fp32: a benchmark is needed",
        ),
    ],
)
def test_what_a_precision_needs_is_asked_for_first(
    checkpoint: Path, tmp_path: Path, options: dict, message: str
):
    """Before minutes of work."""
    with pytest.raises(ExportError, match=message):
        export_bundle(checkpoint, tmp_path / "bundle", tile=TILE, **options)


def test_int8_graph_of_other_weights_fails_the_gate(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The gate compares each precision with FP32 torch, and the message holds the table."""
    other = to_onnx(smooth_generator(seed=3), tile=TILE)
    real = exporter.quantize
    monkeypatch.setattr(exporter, "quantize", lambda _, *rest, **more: real(other, *rest, **more))
    with pytest.raises(ParityError, match=r"in int8 is too far(.|\n)*PSNR dB(.|\n)*not judged"):
        export_bundle(
            checkpoint,
            tmp_path / "bundle",
            tile=TILE,
            precisions=["int8"],
            calibration=scan_tiles(),
            recall_judge=FixedRecall(fp32=0.9, reduced=0.9),
        )


def test_installed_engine_that_cannot_run_a_graph_fails_the_gate(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Only an engine that is not installed is left out of the comparison."""
    monkeypatch.setattr(parity, "installed_engines", lambda _: ["onnx", "broken"])
    with pytest.raises(EngineError, match="unknown engine 'broken'"):
        export_bundle(checkpoint, tmp_path / "bundle", tile=TILE)
    monkeypatch.setattr(parity, "installed_engines", lambda _: [])
    with pytest.raises(EngineError, match="no engine that runs fp32 is installed"):
        export_bundle(checkpoint, tmp_path / "bundle", tile=TILE)


def test_engine_that_lacks_a_precision_says_which_it_has(checkpoint: Path, tmp_path: Path):
    """ONNX Runtime has no BF16 on a CPU."""
    bundle = export_bundle(checkpoint, tmp_path / "bundle", tile=TILE).bundle
    with pytest.raises(EngineError, match="'onnx' runs fp32, fp16, int8, not bf16"):
        load_engine("onnx", bundle, EngineOptions(precision="bf16", threads=1))
