"""Answers of 16 bits: the bundle's graph, its golden tile, and engines that carry it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bundle_format.bundle import BundleError, load_bundle
from engines.batches import run_batch
from engines.golden import verify_golden
from engines.protocol import EngineError, EngineOptions
from engines.registry import load_engine
from engines.sixteen_bit import LEVELS, SixteenBitEngine, run_16_bit, verify_golden_16_bit
from tests.bundles import bundle_files, edit_manifest, manifest_fields

ROOT = Path(__file__).parents[2]
TINY_BUNDLE = ROOT / "tests" / "data" / "tiny_bundle"
OPTIONS = EngineOptions(precision="fp32", threads=1, answer_bits=16)


def load(path: Path = TINY_BUNDLE) -> SixteenBitEngine:
    """The tiny bundle's engine with its 16-bit graph."""
    engine = load_engine("onnx", load_bundle(path), OPTIONS)
    assert isinstance(engine, SixteenBitEngine)
    return engine


def answers(engine: SixteenBitEngine, lr: np.ndarray) -> np.ndarray:
    """The 16-bit answers of (N, 1, H, W)."""
    count, _, height, width = lr.shape
    sr = np.zeros((count, 1, 4 * height, 4 * width), np.uint16)
    engine.run_16_bit([tile[0] for tile in lr], [tile[0] for tile in sr])
    return sr


def test_16_bits_refine_the_8_bits() -> None:
    """Both answers are the same picture: every 16-bit value lies within half a grey level."""
    engine = load()
    lr = np.random.default_rng(3).integers(0, 256, (3, 1, 24, 24), dtype=np.uint8)

    eight, sixteen = run_batch(engine, lr).sr, answers(engine, lr)

    assert np.abs(sixteen / LEVELS - eight).max() <= 0.5 + 0.01
    assert len(np.unique(sixteen)) > 2000
    assert len(np.unique(sixteen % LEVELS)) == LEVELS  # the steps between greys are used


def test_a_tile_has_the_same_answer_alone_and_in_a_batch() -> None:
    """And flags as from the 8-bit graph."""
    engine = load()
    lr = np.random.default_rng(4).integers(0, 256, (3, 1, 24, 24), dtype=np.uint8)

    together = answers(engine, lr)

    alone = np.concatenate([answers(engine, tile[None]) for tile in lr])
    assert np.abs(together.astype(int) - alone).max() <= 5
    sr = np.zeros((96, 96), np.uint16)
    flags = engine.run_16_bit([lr[0, 0]], [sr])
    np.testing.assert_allclose(flags, run_batch(engine, lr[:1]).flags, atol=1e-5)


@pytest.mark.parametrize("name", ["default", "fast"])
def test_shipped_bundles_reproduce_their_16_bit_golden_tile(name: str) -> None:
    """Within five steps of 65535; one was measured."""
    bundle = load_bundle(ROOT / "bundles" / name)
    engine = load_engine("onnx", bundle, OPTIONS)
    assert isinstance(engine, SixteenBitEngine)

    assert verify_golden_16_bit(engine, bundle) <= 2 / LEVELS


def test_a_16_bit_graph_that_differs_is_refused(tmp_path: Path) -> None:
    """An engine serves only when both of its answers are right."""
    path = tmp_path / "bundle"
    shutil.copytree(TINY_BUNDLE, path)
    bundle = load_bundle(path)
    golden = bundle.golden_16_bit()
    engine = load(path)
    assert verify_golden(engine, bundle) <= 1

    # The 8-bit reference does not show six steps in one pixel; the 16-bit one does.
    golden[0, 0, 3, 3] += 6
    changed = type(bundle)(path, bundle.manifest, bundle.digest)
    object.__setattr__(changed, "golden_16_bit", lambda: golden)
    with pytest.raises(EngineError, match=r"16-bit graph of .*max error 0\.02"):
        verify_golden(engine, changed)


def test_an_engine_without_the_graph_does_not_answer_in_16_bits() -> None:
    """The error says how it was loaded."""
    engine = load_engine(
        "onnx", load_bundle(TINY_BUNDLE), EngineOptions(precision="fp32", threads=1)
    )
    tile, sr = np.zeros((24, 24), np.uint8), np.zeros((96, 96), np.uint16)
    with pytest.raises(EngineError, match="'onnx' was loaded for answers of 8 bits"):
        run_16_bit(engine, [tile], [sr])
    with pytest.raises(EngineError, match="'identity' answers in 8 bits alone"):
        load_engine("identity", load_bundle(TINY_BUNDLE), OPTIONS)


def test_a_bundle_without_the_graph_says_so(tmp_path: Path) -> None:
    """Its 8-bit answers are served as before."""
    path = tmp_path / "bundle"
    shutil.copytree(TINY_BUNDLE, path)
    edit_manifest(path, sixteen_bit=None)
    bundle = load_bundle(path)

    load_engine("onnx", bundle, EngineOptions(precision="fp32", threads=1)).close()
    with pytest.raises(BundleError, match=r"no graph for answers of 16 bits; export"):
        load_engine("onnx", bundle, OPTIONS)


def test_the_8_bit_graph_is_refused_as_a_16_bit_one(tmp_path: Path) -> None:
    """ONNX Runtime would fill half of the memory."""
    path = tmp_path / "bundle"
    shutil.copytree(TINY_BUNDLE, path)
    edit_manifest(path, sixteen_bit={"graph": "model.onnx", "parity": None})
    with pytest.raises(EngineError, match=r"expected lr, tensor\(uint8\), sr, tensor\(uint16\)"):
        load_engine("onnx", load_bundle(path), OPTIONS)


def test_16_bit_files_must_be_listed(tmp_path: Path) -> None:
    """Graph and golden file have hashes, as all files."""
    path = tmp_path / "bundle"
    shutil.copytree(TINY_BUNDLE, path)
    fields = json.loads((path / "manifest.json").read_text())
    del fields["files"]["golden/sr_16_bit.png"]
    edit_manifest(path, files=fields["files"])
    with pytest.raises(BundleError, match=r"golden/sr_16_bit\.png is used but its sha256 is not"):
        load_bundle(path)


def test_older_formats_have_no_16_bit_graph(tmp_path: Path) -> None:
    """A field of format 6 in a manifest of format 5 is refused."""
    from bundle_format.bundle_writer import write_bundle

    path = tmp_path / "bundle"
    write_bundle(path, files=bundle_files(), manifest_fields=manifest_fields())
    edit_manifest(path, format_version=5)
    with pytest.raises(BundleError, match="sixteen_bit is a field of version 6"):
        load_bundle(path)
