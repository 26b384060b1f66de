"""The engines: one contract for all, and the choice between them."""

import importlib.util
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle_format.bundle import FLAGS, Bundle, BundleError, Precision, load_bundle
from bundle_format.bundle_writer import write_bundle
from engines import auto, cuda
from engines.batches import run_batch
from engines.cpu import available_cpus
from engines.golden import verify_golden, warm_up
from engines.protocol import EngineError, EngineOptions
from engines.registry import ENGINES, load_engine
from tests.bundles import bundle_files, manifest_fields
from tests.fakes import FakeEngine

ROOT = Path(__file__).resolve().parents[2]
TINY_BUNDLE = ROOT / "tests" / "data" / "tiny_bundle"
OPTIONS = EngineOptions(precision="fp32", threads=1)
ON_CPU = [name for name, spec in ENGINES.items() if "cpu" in spec.precisions]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """A real exported network of two blocks."""
    return load_bundle(TINY_BUNDLE)


def engine_or_skip(name: str, bundle: Bundle):
    """Load an engine, or skip where its runtime is an extra that is not installed."""
    for module in ENGINES[name].modules:
        pytest.importorskip(module)
    return load_engine(name, bundle, OPTIONS)


@pytest.mark.parametrize("name", ON_CPU)
def test_every_engine_keeps_the_contract(name: str, bundle: Bundle):
    """Any batch and size give uint8 of the right shape, contiguous, and the same tile each time."""
    engine = engine_or_skip(name, bundle)
    assert engine.name == name
    assert engine.precision == "fp32"
    assert engine.slots >= 1
    tiles = np.random.default_rng(0).integers(0, 256, (3, 1, 24, 24), dtype=np.uint8)
    batch, flags = run_batch(engine, tiles)
    assert (batch.shape, batch.dtype) == ((3, 1, 96, 96), np.uint8)
    assert batch.flags.c_contiguous
    assert (flags.shape, flags.dtype) == ((3, len(FLAGS)), np.float32)
    # The small network is far from a good one, but makes numbers and keeps some structure.
    assert (flags[:, 0] == 0).all()
    assert ((flags[:, 2:4] > -1) & (flags[:, 2:4] <= 1.001)).all()
    assert np.isfinite(flags[:, 4:]).all()
    # White noise over all greys is far from what the bundle's limits were made from.
    assert name == "identity" or (flags[:, 5] > 1).all()
    for index in range(3):
        single = run_batch(engine, tiles[index : index + 1]).sr
        assert np.abs(single[0].astype(int) - batch[index]).max() <= 1
    other = run_batch(engine, np.zeros((1, 1, 30, 17), dtype=np.uint8)).sr
    assert other.shape == (1, 1, 120, 68)
    engine.close()


@pytest.mark.parametrize("name", ON_CPU)
def test_result_is_not_overwritten_by_the_next_call(name: str, bundle: Bundle):
    """Answers are sent while the engine already works on the next batch."""
    engine = engine_or_skip(name, bundle)
    first = run_batch(engine, np.full((1, 1, 24, 24), 10, dtype=np.uint8))
    kept = first.sr.copy(), first.flags.copy()
    run_batch(engine, np.full((1, 1, 24, 24), 240, dtype=np.uint8))
    np.testing.assert_array_equal(first.sr, kept[0])
    np.testing.assert_array_equal(first.flags, kept[1])


@pytest.mark.parametrize("name", ON_CPU)
def test_every_engine_passes_the_golden_tile_and_warms_up(name: str, bundle: Bundle):
    """Each runtime gives what FP32 torch gave when the bundle was exported."""
    engine = engine_or_skip(name, bundle)
    assert verify_golden(engine, bundle) <= 1
    warm_up(engine, bundle, max_batch_size=2)


def test_wrong_output_fails_the_golden_tile(bundle: Bundle):
    """An engine that computes something else is refused before it serves."""
    with pytest.raises(EngineError, match="differs from the golden tile"):
        verify_golden(FakeEngine(), bundle)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 8])
def test_identity_repeats_pixels_at_every_scale(scale: int):
    """The fast paths for powers of two give what plain repetition gives."""
    from engines.identity_engine import IdentityEngine

    lr = np.random.default_rng(1).integers(0, 256, (2, 1, 5, 7), dtype=np.uint8)
    expected = lr.repeat(scale, axis=2).repeat(scale, axis=3)
    np.testing.assert_array_equal(run_batch(IdentityEngine(scale=scale), lr).sr, expected)


def test_unknown_engine_names_the_known_ones(bundle: Bundle):
    """A mistyped name is answered with the choice."""
    with pytest.raises(EngineError, match="unknown engine 'onxx'; expected one of auto, identity"):
        load_engine("onxx", bundle, OPTIONS)


def test_missing_runtime_names_package_and_extra(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    """Asking for an engine that is not installed is an error that says how to install it."""
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(
        EngineError, match=r"needs the package 'openvino'.*make install EXTRAS=openvino"
    ):
        load_engine("openvino", bundle, OPTIONS)


def test_graph_that_is_no_onnx_is_an_engine_error(tmp_path: Path):
    """A bundle whose graph is damaged in spite of its hash is refused with the runtime's words."""
    files, fields = bundle_files(graph=b"no graph"), manifest_fields()
    bundle = write_bundle(tmp_path / "bundle", files=files, manifest_fields=fields)
    with pytest.raises(EngineError, match="ONNX Runtime refuses"):
        load_engine("onnx", bundle, OPTIONS)


def test_precision_that_the_bundle_lacks_is_refused(bundle: Bundle):
    """Never a silent fallback to another precision."""
    with pytest.raises(BundleError, match="no int8 graph"):
        load_engine("onnx", bundle, EngineOptions(precision="int8", threads=1))


def test_a_device_that_an_engine_does_not_run_on_is_refused(bundle: Bundle):
    """OpenVINO knows no CUDA; the message says what it knows."""
    with pytest.raises(EngineError, match="'openvino' runs on cpu, not on cuda:1"):
        load_engine("openvino", bundle, replace(OPTIONS, device="cuda:1"))


def test_onnx_runtime_reports_to_nobody(tmp_path: Path):
    """Its wheels would send reports of their use, and leave a device's id in the user's home."""
    code = (
        "import engines.onnx_engine, onnxruntime, sys; "
        "onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
    )
    # Nothing else of the environment: it reports nothing where it takes itself to be under test.
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code, str(TINY_BUNDLE / "model.onnx")],
        env=home,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (result.returncode, result.stderr)
    assert [] == list(tmp_path.iterdir())


def test_onnx_without_cuda_is_refused_and_says_what_to_install(bundle: Bundle):
    """ONNX Runtime would go on on the CPU, a hundred times slower, and say so in a log only."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(EngineError, match=r"cannot use cuda: .* onnxruntime-gpu is needed"):
        load_engine("onnx", bundle, replace(OPTIONS, device="cuda"))


def test_torch_without_a_gpu_is_refused(bundle: Bundle):
    """The reference engine, too, never falls back."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(EngineError, match=r"'torch' cannot use cuda: .* no usable GPU"):
        load_engine("torch", bundle, replace(OPTIONS, device="cuda"))


def test_openvino_for_throughput_runs_several_calls_at_once(bundle: Bundle):
    """As many threads as slots get the same answers as one."""
    pytest.importorskip("openvino")
    engine = load_engine("openvino", bundle, replace(OPTIONS, threads=2, hint="throughput"))
    tiles = np.random.default_rng(2).integers(0, 256, (8, 1, 1, 24, 24), dtype=np.uint8)
    expected = [run_batch(engine, tile).sr for tile in tiles]
    with ThreadPoolExecutor(engine.slots + 1) as pool:
        found = list(pool.map(lambda tile: run_batch(engine, tile).sr, tiles))
    assert engine.slots >= 1
    np.testing.assert_array_equal(found, expected)


class TestAuto:
    """`auto` measures once per machine, bundle and versions, and remembers."""

    @pytest.fixture
    def speeds(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
        """Pretend that both runtimes are installed and run at these speeds."""
        speeds = {
            "onnx fp32": 1.0,
            "openvino fp32": 2.0,
            "openvino bf16": 2.0,
            "onnx int8": 2.0,
            "openvino int8": 2.0,
        }
        self.measured: list[str] = []

        def measure(name: str, _bundle: Bundle, options: EngineOptions) -> float:
            measured = f"{name} {options.precision}"
            self.measured.append(measured)
            if speeds[measured] < 0:
                raise EngineError(f"{measured} fails")
            return speeds[measured]

        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
        monkeypatch.setattr(auto.importlib.metadata, "version", lambda name: "1.0")
        monkeypatch.setattr(auto, "_measure_in_child", measure)
        return speeds

    def choose(
        self,
        bundle: Bundle,
        cache_dir: Path | None,
        *,
        options: EngineOptions = OPTIONS,
        precisions: Sequence[Precision] = ("fp32",),
    ) -> str:
        """Return engine and precision of the choice."""
        choice = auto.choose_engine(bundle, options, precisions=precisions, cache_dir=cache_dir)
        return f"{choice.engine} {choice.precision}"

    def test_fastest_is_chosen_and_remembered(self, bundle, speeds, tmp_path: Path):
        """The second start reads the choice and measures nothing."""
        assert self.choose(bundle, tmp_path) == "openvino fp32"
        assert self.measured == ["onnx fp32", "openvino fp32"]
        speeds["onnx fp32"] = 100.0
        remembered = auto.choose_engine(bundle, OPTIONS, precisions=["fp32"], cache_dir=tmp_path)
        assert remembered == auto.Choice("openvino", "fp32", {})
        assert self.measured == ["onnx fp32", "openvino fp32"]

    @pytest.mark.parametrize(
        ("faster", "expected"),
        [
            ({}, "openvino fp32"),
            ({"openvino bf16": 2.3}, "openvino fp32"),
            ({"openvino bf16": 4.0}, "openvino bf16"),
            ({"openvino bf16": 4.0, "openvino int8": 4.5}, "openvino bf16"),
            ({"openvino bf16": 4.0, "onnx int8": 6.0}, "onnx int8"),
            ({"openvino bf16": 2.3, "onnx int8": 2.5, "openvino int8": 2.6}, "openvino int8"),
            ({"onnx fp32": 9.0, "openvino bf16": 10.0}, "onnx fp32"),
        ],
    )
    def test_reduced_precision_must_be_faster_by_a_fifth(
        self, bundle, speeds, tmp_path: Path, faster: dict[str, float], expected: str
    ):
        """The most exact one stands until another is clearly faster: noise must not decide."""
        speeds.update(faster)
        assert self.choose(bundle, tmp_path, precisions=["fp32", "bf16", "int8"]) == expected
        assert self.choose(bundle, tmp_path, precisions=["fp32", "bf16", "int8"]) == expected
        assert len(self.measured) == 5

    def test_fp16_is_not_measured_on_a_cpu(self, bundle, speeds, tmp_path: Path):
        """It would be computed in FP32 between casts; asked for by name it is taken."""
        assert self.choose(bundle, tmp_path, precisions=["fp32", "fp16"]) == "openvino fp32"
        assert self.choose(bundle, tmp_path, precisions=["fp16"]) == "onnx fp16"
        assert self.measured == ["onnx fp32", "openvino fp32"]

    def test_precision_is_not_chosen_where_nothing_is_remembered(
        self, bundle, speeds, tmp_path: Path
    ):
        """Today's answers and tomorrow's would differ by the machine's load at the start."""
        speeds["openvino bf16"] = 9.0
        blocked = tmp_path / "file"
        blocked.write_text("not a folder")
        for cache_dir in (None, blocked):
            assert self.choose(bundle, cache_dir, precisions=["fp32", "bf16"]) == "openvino fp32"

    def test_processes_that_start_together_choose_alike(
        self, bundle, speeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """The later one waits for the first one's choice; each would measure something else."""
        started, finish = threading.Event(), threading.Event()
        measure = auto._measure_in_child

        def slow(name: str, bundle: Bundle, options: EngineOptions) -> float:
            started.set()
            assert finish.wait(30)
            return measure(name, bundle, options)

        monkeypatch.setattr(auto, "_measure_in_child", slow)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(self.choose, bundle, tmp_path)
            assert started.wait(30)
            second = pool.submit(self.choose, bundle, tmp_path)
            finish.set()
            assert [first.result(30), second.result(30)] == ["openvino fp32"] * 2
        assert self.measured == ["onnx fp32", "openvino fp32"]

    def test_other_thread_count_measures_again(self, bundle, speeds, tmp_path: Path):
        """A choice holds for the conditions it was made under."""
        self.choose(bundle, tmp_path)
        self.choose(bundle, tmp_path, options=EngineOptions("fp32", threads=2))
        assert len(self.measured) == 4

    def test_another_gpu_measures_again(
        self, bundle, speeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """A cache that moves to another machine, or a card that is exchanged, is noticed."""
        speeds.update({"tensorrt fp32": 3.0, "torch fp32": 2.0})
        options = EngineOptions("fp32", threads=1, device="cuda")
        for gpu, expected in (("L4", "tensorrt"), ("H100", "onnx"), ("L4", "tensorrt")):
            monkeypatch.setattr(auto, "gpu_name", lambda _device, gpu=gpu: gpu)
            assert self.choose(bundle, tmp_path, options=options) == f"{expected} fp32"
            speeds["onnx fp32"] = 9.0
        assert self.measured == ["onnx fp32", "tensorrt fp32", "torch fp32"] * 2

    @pytest.mark.parametrize(
        ("device", "expected"),
        [
            ("cpu", "onnx fp32, openvino fp32"),
            ("cuda:1", "onnx fp16, tensorrt fp16, torch fp16, torch bf16"),
        ],
    )
    def test_candidates_depend_on_the_device(self, bundle, speeds, device: str, expected: str):
        """`torch` is measured on a GPU alone; a CPU has faster runtimes."""
        wanted: list[Precision] = ["fp32"] if device == "cpu" else ["fp16", "bf16"]
        candidates = auto._candidates(wanted, device)
        assert ", ".join(map(" ".join, candidates)) == expected

    def test_engine_that_fails_is_not_chosen(self, bundle, speeds, tmp_path: Path):
        """A runtime that cannot run the bundle loses; if all fail, the reasons are given."""
        speeds["openvino fp32"] = -1
        assert self.choose(bundle, None) == "onnx fp32"
        speeds["onnx fp32"] = -1
        with pytest.raises(EngineError, match="onnx fp32 fails; openvino fp32 fails"):
            self.choose(bundle, None)

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            "[]",
            '{"format_version": 1, "engine": "onnx"}',
            '{"format_version": 2, "engine": "onnx"}',
            '{"format_version": 2, "engine": "onnx", "precision": "int8"}',
        ],
    )
    def test_unreadable_memory_measures_again(self, bundle, speeds, tmp_path: Path, content: str):
        """A damaged or unknown cache file costs a measurement, never a start."""
        self.choose(bundle, tmp_path)
        [file] = tmp_path.glob("*.json")
        assert json.loads(file.read_text())["engine"] == "openvino"
        file.write_text(content)
        assert self.choose(bundle, tmp_path) == "openvino fp32"
        assert len(self.measured) == 4

    def test_unwritable_cache_is_no_error(self, bundle, speeds, tmp_path: Path):
        """A read-only root file system costs a measurement at each start, nothing more."""
        blocked = tmp_path / "file"
        blocked.write_text("not a folder")
        assert self.choose(bundle, blocked) == "openvino fp32"

    def test_one_candidate_is_not_measured(self, bundle, monkeypatch: pytest.MonkeyPatch):
        """With the base install alone there is nothing to compare."""
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "onnxruntime" or None)
        assert self.choose(bundle, None) == "onnx fp32"


class FakeDriver:
    """libcuda with two GPUs, as ctypes shows it."""

    NAMES = (b"NVIDIA L4", b"NVIDIA H100 80GB HBM3")

    def cuInit(self, _flags: int) -> int:  # noqa: N802 (CUDA's name)
        """Well."""
        return 0

    def cuDeviceGet(self, handle: Any, index: int) -> int:  # noqa: N802, ANN401
        """Return the handle, which is not an index."""
        handle._obj.value = 70 + index
        return 0 if index < len(self.NAMES) else 101

    def cuDeviceGetName(self, name: Any, size: int, handle: Any) -> int:  # noqa: N802, ANN401
        """Write the name."""
        name.value = self.NAMES[handle.value - 70][: size - 1]
        return 0


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cuda", "NVIDIA L4"), ("cuda:1", "NVIDIA H100 80GB HBM3"), ("cuda:2", "")],
)
def test_the_driver_names_the_gpu(device: str, expected: str, monkeypatch: pytest.MonkeyPatch):
    """By the index that the setting has; one that is not there has no name."""
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda _name: FakeDriver())
    assert cuda.gpu_name(device) == expected


def test_without_a_driver_a_gpu_has_no_name(monkeypatch: pytest.MonkeyPatch):
    """The choice between engines goes on; they say themselves that there is no GPU."""

    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(cuda.ctypes, "CDLL", missing)
    assert cuda.gpu_name("cuda") == ""


def test_real_measurement_runs_in_a_child_process(bundle: Bundle):
    """The child loads the engine and reports a speed; a broken bundle is an error with a reason."""
    assert auto._measure_in_child("onnx", bundle, OPTIONS) > 0


def test_failed_measurement_says_why(bundle: Bundle, tmp_path: Path):
    """The child's last words are in the message."""
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    loaded = load_bundle(copy)
    (copy / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(EngineError, match="does not match its manifest"):
        auto._measure_in_child("onnx", loaded, OPTIONS)


@pytest.mark.parametrize(
    ("content", "expected"), [("max 100000", None), ("50000 100000", 1), ("150000 100000", 2)]
)
def test_cgroup_quota_limits_the_threads(tmp_path: Path, content: str, expected: int | None):
    """Half a core still gets one thread, one and a half get two, never more than the affinity."""
    (tmp_path / "cpu.max").write_text(content)
    unlimited = available_cpus(tmp_path / "nowhere")
    expected = unlimited if expected is None else min(expected, unlimited)
    assert available_cpus(tmp_path) == expected
