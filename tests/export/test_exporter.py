"""Checkpoint to bundle: graph, parity gate, model card, reproducibility."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from bundle_format.bundle import load_bundle
from engines.batches import run_batch
from engines.protocol import EngineOptions
from engines.registry import load_engine
from engines.sixteen_bit import SixteenBitEngine, verify_golden_16_bit
from export.cases import golden_tile, standard_cases
from export.exporter import export_bundle
from export.parity import ParityError, Reference, compare, summarise
from export.preflight import ExportError
from export.to_onnx import to_onnx
from models import Generator, build_generator, save_network

TILE = (24, 24)


def small_generator(*, scale: int = 4, seed: int = 0) -> Generator:
    """A network of two blocks with random weights, far from the identity."""
    torch.manual_seed(seed)
    generator = build_generator("rep_sr", {"channels": 8, "num_blocks": 2, "scale": scale})
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return generator


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a training statement."""
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.safetensors"
    save_network(
        path,
        small_generator(),
        training={
            "data": {"statement": "made for a test", "credits": "nobody"},
            "steps": 2,
            "lr_domain": {"mean": 72.0, "std": 20.0, "noise_sigma": 5.7},
        },
    )
    return path


@pytest.mark.parametrize("scale", [2, 4])
def test_graph_gives_what_torch_gives_at_any_size(scale: int, tmp_path: Path):
    """The exported graph takes any batch and size and agrees with torch to one grey level."""
    generator = small_generator(scale=scale)
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_network(checkpoint, generator, training={})
    bundle = export_bundle(checkpoint, tmp_path / "bundle", tile=TILE, max_batch_size=2).bundle
    engine = load_engine("onnx", bundle, EngineOptions(precision="fp32", threads=1, answer_bits=16))
    assert isinstance(engine, SixteenBitEngine)
    assert verify_golden_16_bit(engine, bundle) <= 0.02
    for count, height, width in ((1, 24, 24), (3, 33, 17), (2, 8, 64)):
        lr = np.random.default_rng(5).integers(0, 256, (count, 1, height, width), dtype=np.uint8)
        sr = run_batch(engine, lr).sr
        assert sr.shape == (count, 1, scale * height, scale * width)
        assert np.abs(sr.astype(int) - Reference(generator)(lr)).max() <= 1


def test_graph_is_reproducible_and_holds_no_path_of_the_exporting_machine():
    """The same weights give the same bytes, without stack traces or source files."""
    first, second = (to_onnx(small_generator(), tile=TILE) for _ in range(2))
    assert first == second
    assert b".py" not in first
    assert b"/" not in onnx.load_from_string(first).doc_string.encode()


def test_graph_signature_is_the_contract():
    """uint8 in and out, named lr and sr, sizes free."""
    graph = onnx.load_from_string(to_onnx(small_generator(), tile=TILE)).graph
    for value, name in ((graph.input[0], "lr"), (graph.output[0], "sr")):
        tensor = value.type.tensor_type
        assert value.name == name
        assert tensor.elem_type == onnx.TensorProto.UINT8
        axes = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
        assert axes[0] == "N"
        assert axes[1] == 1
        assert all(isinstance(axis, str) for axis in axes[2:])


def test_bundle_holds_what_the_service_needs(checkpoint: Path, tmp_path: Path):
    """Scale, halo, domain statistics, parity and a card that repeats the data statement."""
    result = export_bundle(checkpoint, tmp_path / "fine", tile=TILE, window=(100, 4000))
    manifest = load_bundle(tmp_path / "fine").manifest
    assert (manifest.name, manifest.scale, manifest.halo_px) == ("fine", 4, 4)
    assert (manifest.grid_px, manifest.seams) == (1, None)
    assert manifest.window == (100, 4000)
    assert manifest.lr_domain is not None
    assert manifest.lr_domain.mean == 72.0
    assert manifest.parity["fp32"].max_error <= 1
    assert {row.case for row in result.parity} >= {"golden", "random", "batch", "odd size"}
    assert manifest.max_batch_size == 32
    assert {row.shape[0] for row in result.parity if row.case == "full batch"} == {32}
    card = (tmp_path / "fine" / "MODEL_CARD.md").read_text()
    assert "made for a test" in card
    assert card.startswith("---\nlibrary_name: semsr\n")
    assert "\n---\n\n# Model card: fine\n" in card


def test_export_is_reproducible_byte_for_byte(checkpoint: Path, tmp_path: Path):
    """Two exports of one checkpoint have the same digest."""
    digests = {
        export_bundle(checkpoint, tmp_path / name, name="same", tile=TILE).bundle.digest
        for name in ("a", "b")
    }
    assert len(digests) == 1


def test_graph_of_other_weights_fails_the_gate(checkpoint: Path, tmp_path: Path):
    """The gate compares with the checkpoint's own weights: another network's graph is refused."""
    bundle = export_bundle(checkpoint, tmp_path / "bundle", tile=TILE).bundle
    engine = load_engine("onnx", bundle, EngineOptions(precision="fp32", threads=1))
    with pytest.raises(ParityError, match="at most 1 grey levels"):
        compare(Reference(small_generator(seed=1)), engine, standard_cases(TILE, max_batch_size=2))


def test_failed_gate_leaves_no_bundle(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nothing is written unless the graph is proven."""
    wrong = to_onnx(small_generator(seed=1), tile=TILE)
    monkeypatch.setattr("export.exporter.to_onnx", lambda *_, **__: wrong)
    with pytest.raises(ParityError):
        export_bundle(checkpoint, tmp_path / "bundle", tile=TILE)
    assert not (tmp_path / "bundle").exists()


def test_network_that_looks_beyond_its_tile_is_refused(tmp_path: Path):
    """A tile must have room for the halo on both sides."""
    path = tmp_path / "deep.safetensors"
    save_network(path, build_generator("rep_sr", {"channels": 2, "num_blocks": 12}), training={})
    with pytest.raises(ExportError, match=r"looks 14 px beyond .* 24x24"):
        export_bundle(path, tmp_path / "bundle", tile=TILE)


def test_network_for_enlarged_pictures_is_refused(tmp_path: Path):
    """It needs another method before it, which learns at inference time."""
    path = tmp_path / "checkpoint.safetensors"
    tiny = {"scale": 1, "width": 2, "num_blocks": 1}
    save_network(path, build_generator("resnet9", tiny), training={})
    with pytest.raises(ExportError, match=r"scale 1: it translates pictures that are enlarged"):
        export_bundle(path, tmp_path / "bundle", tile=TILE)
    assert not (tmp_path / "bundle").exists()


def test_golden_tile_uses_the_whole_grey_range_and_never_changes():
    """The golden tile has structure, and its bytes are pinned."""
    tile = golden_tile((240, 240))
    assert tile.shape == (1, 1, 240, 240)
    assert tile.min() < 40
    assert tile.max() > 200
    assert int(tile.astype(np.int64).sum()) == 6_514_407


def test_summary_weighs_by_pixels(checkpoint: Path, tmp_path: Path):
    """The mean error is over all pixels, the maximum over all cases."""
    rows = export_bundle(checkpoint, tmp_path / "bundle", tile=TILE).parity
    figures = summarise(rows)
    assert figures.max_error == max(row.max_error for row in rows)
    assert figures.tiles == sum(row.shape[0] for row in rows)
    assert min(row.mean_error for row in rows) <= figures.mean_error
    assert figures.mean_error <= max(row.mean_error for row in rows)
