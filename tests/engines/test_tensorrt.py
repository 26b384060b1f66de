"""TensorRT: plans are built, kept and refused; the engine's lanes, on a GPU of our own making.

There is no GPU where these tests run. Plans are built by TensorRT for RTX, which needs none; what
runs them is replaced by `FakeCuda` and `FakeTensorrt`.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle_format.bundle import FLAGS, Bundle, load_bundle
from bundle_format.bundle_writer import write_bundle
from engines import tensorrt_engine, tensorrt_plans
from engines.batches import run_batch
from engines.protocol import EngineError, EngineOptions, batch_buckets
from engines.registry import load_engine
from engines.tensorrt_plans import PlanKey, build_plans, read_plan
from tests.bundles import SCALE, TILE_PX, bundle_files, manifest_fields
from tests.engines.fake_gpu import FakeCuda, FakeTensorrt

TINY_BUNDLE = Path(__file__).parent.parent / "data" / "tiny_bundle"
KEY = PlanKey(
    onnx_sha256="ab" * 32,
    module="tensorrt",
    module_version="11.4.0",
    compute_capability=89,
    batch=4,
    tile=(240, 240),
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle whose graph is never parsed; its golden output repeats pixels."""
    return write_bundle(
        tmp_path / "bundle", files=bundle_files(), manifest_fields=manifest_fields()
    )


@pytest.mark.parametrize(
    ("largest", "expected"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])]
)
def test_buckets_are_powers_of_two_and_the_largest(largest: int, expected: list[int]):
    """Every batch size finds a bucket that is at most twice as large."""
    assert batch_buckets(largest) == expected


class TestPlans:
    """The cache: what is written is what is read, and nothing else is."""

    def test_a_plan_comes_back(self, tmp_path: Path):
        """Bytes in, bytes out, under a name that says what they are."""
        tensorrt_plans._write(tmp_path / KEY.file_name, KEY, b"plan")
        assert read_plan(tmp_path, KEY) == b"plan"
        assert KEY.file_name.startswith("tensorrt-11.4.0-sm89-b4-240x240-")
        assert [KEY.file_name] == [path.name for path in tmp_path.iterdir()]

    @pytest.mark.parametrize(
        "other",
        [
            {"onnx_sha256": "cd" * 32},
            {"module": "tensorrt_rtx"},
            {"module_version": "11.5.0"},
            {"compute_capability": 90},
            {"batch": 8},
            {"tile": (244, 244)},
        ],
    )
    def test_a_plan_for_something_else_is_not_found(self, tmp_path: Path, other: dict[str, Any]):
        """The message names what is wanted, what is there, and how to build it."""
        tensorrt_plans._write(tmp_path / KEY.file_name, KEY, b"plan")
        with pytest.raises(EngineError, match=r"has no TensorRT plan .* build-plans") as caught:
            read_plan(tmp_path, replace(KEY, **other))
        assert KEY.file_name in str(caught.value)

    def test_a_renamed_plan_is_refused(self, tmp_path: Path):
        """The header is believed, not the name."""
        other = replace(KEY, compute_capability=90)
        tensorrt_plans._write(tmp_path / other.file_name, KEY, b"plan")
        with pytest.raises(EngineError, match="is for compute_capability 89, not 90"):
            read_plan(tmp_path, other)

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda content: content[:-1] + b"!", "does not match its sha256"),
            (lambda content: content[:-2], "does not match its sha256"),
            (lambda content: content[:12], "is not a TensorRT plan"),
            (lambda content: b"PK" + content, "is not a TensorRT plan"),
            (lambda content: content[:8] + b"\x02" + content[9:], "has format version 2"),
            (lambda content: content[:16] + b"!" + content[17:], "header .* is damaged"),
            (lambda content: content[:12] + b"\xff\xff\xff\xff" + content[16:], "is damaged"),
        ],
        ids=["changed", "cut", "head only", "other", "version", "header", "length"],
    )
    def test_a_damaged_plan_is_refused(
        self, tmp_path: Path, damage: Callable[[bytes], bytes], reason: str
    ):
        """TensorRT runs what it is given, so it is given nothing that was not checked."""
        path = tmp_path / KEY.file_name
        tensorrt_plans._write(path, KEY, b"plan")
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(EngineError, match=reason):
            read_plan(tmp_path, KEY)

    def test_plans_that_fit_are_not_built_again(
        self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """A second install step takes no time; a damaged plan is built again."""
        built: list[int] = []

        def build(_trt: object, _graph: bytes, key: PlanKey) -> bytes:
            built.append(key.batch)
            return b"plan"

        monkeypatch.setattr(tensorrt_plans, "import_tensorrt", FakeTensorrt)
        monkeypatch.setattr(tensorrt_plans, "_build", build)
        paths = build_plans(bundle, "fp32", tmp_path / "plans", compute_capability=89)
        assert built == [1, 2, 4]
        paths[1].write_bytes(b"")
        assert paths == build_plans(bundle, "fp32", tmp_path / "plans", compute_capability=89)
        assert built == [1, 2, 4, 2]

    def test_without_tensorrt_the_packages_are_named(
        self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """The message says which extra is for which card."""
        monkeypatch.setattr(tensorrt_plans, "MODULES", ("no_such_tensorrt",))
        with pytest.raises(EngineError, match=r"no_such_tensorrt.* extra gpu.* extra rtx"):
            build_plans(bundle, "fp32", tmp_path, compute_capability=89)


class TestBuild:
    """TensorRT for RTX builds plans without a GPU."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("tensorrt_rtx_bindings")

    def test_the_exported_graph_becomes_a_plan(self, tmp_path: Path):
        """TensorRT parses what we export: uint8 in and out, the hash, the flags."""
        bundle = load_bundle(TINY_BUNDLE)
        paths = build_plans(bundle, "fp32", tmp_path, compute_capability=89)
        assert [path.name.split("-")[3] for path in paths] == ["b1", "b2", "b4"]
        head = paths[0].read_bytes()[:2000]
        header = json.loads(head[16 : 16 + int.from_bytes(head[12:16], "little")])
        assert header["compute_capability"] == 89
        assert header["tile"] == [24, 24]

    def test_a_card_that_it_does_not_know_is_refused(self, tmp_path: Path):
        """The message names the known ones."""
        with pytest.raises(EngineError, match=r"builds for .*SM89.*, not for SM10"):
            build_plans(load_bundle(TINY_BUNDLE), "fp32", tmp_path, compute_capability=10)

    def test_a_graph_that_is_none_is_refused(self, bundle: Bundle, tmp_path: Path):
        """With the parser's words."""
        with pytest.raises(EngineError, match="refuses the graph"):
            build_plans(bundle, "fp32", tmp_path, compute_capability=89)
        assert list(tmp_path.glob("*.plan")) == []


class TestEngine:
    """The engine on a fake GPU."""

    @pytest.fixture
    def cuda(self) -> FakeCuda:
        """The GPU that the engine gets."""
        return FakeCuda("cuda")

    @pytest.fixture
    def options(
        self, bundle: Bundle, tmp_path: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
    ) -> EngineOptions:
        """Plans in a cache, and everything else in place."""
        trt = FakeTensorrt()
        monkeypatch.setattr(tensorrt_engine, "import_tensorrt", lambda: trt)
        monkeypatch.setattr(tensorrt_engine, "Cuda", lambda _device: cuda)
        monkeypatch.setitem(__import__("sys").modules, "tensorrt", trt)
        cache = tmp_path / "plans"
        keys = tensorrt_plans.plan_keys(bundle, "fp32", trt=trt, compute_capability=89)
        for key in keys:
            tensorrt_plans._write(cache / key.file_name, key, bytes([key.batch]))
        return EngineOptions(precision="fp32", threads=1, device="cuda", plan_cache=str(cache))

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
    def test_every_batch_gets_its_own_answers(
        self, bundle: Bundle, options: EngineOptions, count: int
    ):
        """Small batches are filled up, large ones are split, nothing of another batch is left."""
        engine = load_engine("tensorrt", bundle, options)
        rng = np.random.default_rng(count)
        for _ in range(3):
            lr = rng.integers(0, 256, (count, 1, TILE_PX, TILE_PX), dtype=np.uint8)
            sr, flags = run_batch(engine, lr)
            np.testing.assert_array_equal(sr, lr.repeat(SCALE, axis=2).repeat(SCALE, axis=3))
            assert (flags.shape, flags.dtype) == ((count, len(FLAGS)), np.float32)

    def test_as_many_batches_at_once_as_slots(self, bundle: Bundle, options: EngineOptions):
        """Lanes share no buffers."""
        engine = load_engine("tensorrt", bundle, options)
        rng = np.random.default_rng(0)
        batches = [
            rng.integers(0, 256, (2, 1, TILE_PX, TILE_PX), dtype=np.uint8) for _ in range(40)
        ]
        with ThreadPoolExecutor(engine.slots) as pool:
            found = list(pool.map(lambda lr: run_batch(engine, lr).sr, batches))
        for lr, sr in zip(batches, found, strict=True):
            np.testing.assert_array_equal(sr, lr.repeat(SCALE, axis=2).repeat(SCALE, axis=3))

    def test_every_bucket_is_tried_as_a_graph(
        self, bundle: Bundle, options: EngineOptions, cuda: FakeCuda
    ):
        """Three buckets in two lanes; closing frees the GPU."""
        engine = load_engine("tensorrt", bundle, options)
        assert cuda.num_graphs == 6
        engine.close()
        assert cuda.closed

    def test_other_tiles_are_refused(self, bundle: Bundle, options: EngineOptions):
        """A plan is for one shape."""
        engine = load_engine("tensorrt", bundle, options)
        with pytest.raises(EngineError, match="plans for tiles of 8x8, got 9x8"):
            run_batch(engine, np.zeros((1, 1, 9, 8), dtype=np.uint8))

    def test_missing_plans_say_how_to_build_them(self, bundle: Bundle, options: EngineOptions):
        """Before anything is served."""
        with pytest.raises(
            EngineError, match=r"no TensorRT plan for this graph, tensorrt 11\.4\.0"
        ):
            load_engine("tensorrt", bundle, replace(options, plan_cache="/nowhere"))

    def test_a_plan_that_tensorrt_refuses_is_an_error(
        self, bundle: Bundle, options: EngineOptions, monkeypatch: pytest.MonkeyPatch
    ):
        """Such as one from a card of another kind with the same compute capability."""
        monkeypatch.setattr(tensorrt_engine, "import_tensorrt", lambda: FakeTensorrt(refuses=True))
        with pytest.raises(EngineError, match=r"refuses the plan .* build-plans"):
            load_engine("tensorrt", bundle, options)

    def test_it_does_not_run_on_a_cpu(self, bundle: Bundle, options: EngineOptions):
        """The device is a setting of its own, and the error names it."""
        with pytest.raises(EngineError, match="'tensorrt' runs on cuda, not on cpu"):
            load_engine("tensorrt", bundle, replace(options, device="cpu"))
