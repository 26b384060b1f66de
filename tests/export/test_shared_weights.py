"""Weights stored once: in the checkpoint, and in half precision where asked for."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from safetensors import safe_open
from safetensors.torch import save

from bundle_format.bundle import BundleError, load_bundle
from bundle_format.bundle_writer import write_bundle
from bundle_format.inline_weights import SharedWeightsError, inline_weights
from export.exporter import export_bundle
from export.half_weights import half_checkpoint
from export.preflight import ExportError
from export.shared_weights import share_weights
from export.to_onnx import to_onnx
from models import Generator, build_generator, save_network

TILE = (32, 32)


def generator() -> Generator:
    """A network of some thousand weights."""
    torch.manual_seed(0)
    return build_generator("grain_unet", {"channels": [24, 24], "blocks": [1, 1], "scale": 4})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its checkpoint."""
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.safetensors"
    save_network(path, generator(), training={"steps": 3})
    return path


def weights_of(graph: bytes) -> dict[str, np.ndarray]:
    """Every initializer, which has to lie in the graph."""
    tensors = onnx.load_from_string(graph).graph.initializer
    assert not any(tensor.external_data for tensor in tensors)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}


def test_a_graph_comes_back_as_it_was(checkpoint: Path) -> None:
    """What is shared and put back is the same model; most of its bytes were shared."""
    graph, content = to_onnx(generator(), tile=TILE), checkpoint.read_bytes()

    shared = share_weights(graph, content, location="model.safetensors")
    whole = inline_weights(shared, {"model.safetensors": content}.__getitem__)

    assert len(shared) < 0.6 * len(graph)
    assert shared == share_weights(graph, content, location="model.safetensors")
    before, after = weights_of(graph), weights_of(whole)
    assert list(before) == list(after)
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])
    emptied = [onnx.load_from_string(model) for model in (graph, whole)]
    for model in emptied:
        del model.graph.initializer[:]
    assert emptied[0] == emptied[1]


def test_a_graph_without_shared_weights_is_not_touched(checkpoint: Path) -> None:
    """A graph that holds all its weights is passed through, and nothing is read for it."""
    graph = to_onnx(generator(), tile=TILE)

    assert inline_weights(graph, lambda name: pytest.fail(f"{name} was read")) is graph


def test_tools_that_open_the_file_find_the_weights(checkpoint: Path, tmp_path: Path) -> None:
    """ONNX Runtime loads the bundle's graph by its path and gives the golden tile."""
    bundle = export_bundle(checkpoint, tmp_path / "b", tile=TILE, half_weights=True).bundle
    golden = bundle.golden()

    session = onnxruntime.InferenceSession(str(tmp_path / "b" / "model.onnx"))

    sr = np.asarray(session.run(["sr"], {"lr": golden.lr})[0])
    assert np.abs(sr.astype(int) - golden.sr).max() <= 1


def test_half_weights_halve_every_file_and_all_precisions_share_them(
    checkpoint: Path, tmp_path: Path
) -> None:
    """FP32 and FP16 share one checkpoint of half the size; FP32 stays exact."""
    full = export_bundle(checkpoint, tmp_path / "full", tile=TILE).bundle
    half = export_bundle(
        checkpoint, tmp_path / "half", tile=TILE, precisions=("fp32", "fp16"), half_weights=True
    ).bundle

    def size(bundle: Path, name: str) -> int:
        return (bundle / name).stat().st_size

    assert size(half.path, "model.safetensors") < 0.65 * size(full.path, "model.safetensors")
    weights = size(half.path, "model.safetensors")
    for name in ("model.onnx", "model.fp16.onnx"):
        assert len(half.read(name)) < len(half.graph("fp32")) - 0.6 * weights
    assert half.manifest.parity["fp32"].max_error <= 1
    assert 6 == half.manifest.format_version
    with safe_open(half.path / "model.safetensors", framework="pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 - no dict
        assert file.metadata()["generator"] == "grain_unet"
    assert {torch.float16, torch.float32} == kinds


def test_half_weights_are_rounded_before_anything_is_measured(
    checkpoint: Path, tmp_path: Path
) -> None:
    """The golden tile is the rounded network's: exporting that one changes nothing."""
    rounded = tmp_path / "rounded.safetensors"
    rounded.write_bytes(half_checkpoint(checkpoint))

    bundles = [
        export_bundle(path, tmp_path / name, name="same", tile=TILE, half_weights=True).bundle
        for name, path in (("a", checkpoint), ("b", rounded))
    ]

    assert bundles[0].digest == bundles[1].digest


def test_a_weight_too_large_for_half_precision_is_named(tmp_path: Path) -> None:
    """Nothing becomes infinite in silence."""
    large = generator()
    with torch.no_grad():
        next(p for p in large.parameters() if p.numel() > 300).flatten()[0] = 70_000.0
    path = tmp_path / "checkpoint.safetensors"
    save_network(path, large, training={})

    with pytest.raises(ExportError, match=r"weight holds 70000, too large for FP16"):
        export_bundle(path, tmp_path / "b", tile=TILE, half_weights=True)


def test_another_checkpoint_beside_the_graph_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Its hash is another one; and a manifest that lies meets a file that is too short."""
    export_bundle(checkpoint, tmp_path / "b", tile=TILE)
    loaded = load_bundle(tmp_path / "b")
    short = save({"only": torch.zeros(4)}, metadata={})
    (tmp_path / "b" / "model.safetensors").write_bytes(short)

    with pytest.raises(BundleError, match=r"model\.safetensors does not match its manifest"):
        loaded.graph("fp32")
    files = {
        "model.onnx": loaded.read("model.onnx"),
        "golden/lr.png": loaded.read("golden/lr.png"),
        "golden/sr.png": loaded.read("golden/sr.png"),
        "model.safetensors": short,
    }
    names = set(type(loaded.manifest).model_fields) - {"files", "format_version", "sixteen_bit"}
    fields = {name: getattr(loaded.manifest, name) for name in names}
    lying = write_bundle(tmp_path / "c", files=files, manifest_fields=fields)
    with pytest.raises(BundleError, match=r"model\.onnx: external data at .* lie beyond"):
        lying.graph("fp32")


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (b"\x3flocation", "wire type 7 at byte 0"),
        (b"\x3a\x7flocation", "ends beyond byte 10"),
        (b"\xff" * 11 + b"location", "no varint at byte 0"),
    ],
)
def test_what_is_no_model_is_refused(graph: bytes, message: str) -> None:
    """Bytes that are no protobuf message."""
    with pytest.raises(SharedWeightsError, match=message):
        inline_weights(graph, lambda name: b"")
