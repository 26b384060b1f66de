"""The engines: one contract for all, and the choice between them."""

import importlib.util
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.bundle import FLAGS, Bundle, BundleError, load_bundle
from export.bundle_writer import write_bundle
from service.engines import ENGINES, EngineError, EngineOptions, auto, cuda, load_engine
from service.engines.cpu import available_cpus
from service.engines.golden import verify_golden, warm_up
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
    batch, flags = engine.run(tiles)
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
        single = engine.run(tiles[index : index + 1]).sr
        assert np.abs(single[0].astype(int) - batch[index]).max() <= 1
    other = engine.run(np.zeros((1, 1, 30, 17), dtype=np.uint8)).sr
    assert other.shape == (1, 1, 120, 68)
    engine.close()


@pytest.mark.parametrize("name", ON_CPU)
def test_result_is_not_overwritten_by_the_next_call(name: str, bundle: Bundle):
    """Answers are sent while the engine already works on the next batch."""
    engine = engine_or_skip(name, bundle)
    first = engine.run(np.full((1, 1, 24, 24), 10, dtype=np.uint8))
    kept = first.sr.copy(), first.flags.copy()
    engine.run(np.full((1, 1, 24, 24), 240, dtype=np.uint8))
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
    from service.engines.identity_engine import IdentityEngine

    lr = np.random.default_rng(1).integers(0, 256, (2, 1, 5, 7), dtype=np.uint8)
    expected = lr.repeat(scale, axis=2).repeat(scale, axis=3)
    np.testing.assert_array_equal(IdentityEngine(scale=scale).run(lr).sr, expected)


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
        "import service.engines.onnx_engine, onnxruntime, sys; "
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
    expected = [engine.run(tile).sr for tile in tiles]
    with ThreadPoolExecutor(engine.slots + 1) as pool:
        found = list(pool.map(lambda tile: engine.run(tile).sr, tiles))
    assert engine.slots >= 1
    np.testing.assert_array_equal(found, expected)


class TestAuto:
    """`auto` measures once per machine, bundle and versions, and remembers."""

    @pytest.fixture
    def speeds(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
        """Pretend that both runtimes are installed and run at these speeds."""
        speeds = {"onnx": 1.0, "openvino": 2.0}
        self.measured: list[str] = []

        def measure(name: str, *_: object) -> float:
            self.measured.append(name)
            if speeds[name] < 0:
                raise EngineError(f"{name} fails")
            return speeds[name]

        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
        monkeypatch.setattr(auto.importlib.metadata, "version", lambda name: "1.0")
        monkeypatch.setattr(auto, "_measure_in_child", measure)
        return speeds

    def test_fastest_is_chosen_and_remembered(self, bundle, speeds, tmp_path: Path):
        """The second start reads the choice and measures nothing."""
        assert auto.choose_engine(bundle, OPTIONS, cache_dir=tmp_path)[0] == "openvino"
        assert self.measured == ["onnx", "openvino"]
        speeds["onnx"] = 100.0
        assert auto.choose_engine(bundle, OPTIONS, cache_dir=tmp_path) == ("openvino", {})
        assert self.measured == ["onnx", "openvino"]

    def test_other_thread_count_measures_again(self, bundle, speeds, tmp_path: Path):
        """A choice holds for the conditions it was made under."""
        auto.choose_engine(bundle, OPTIONS, cache_dir=tmp_path)
        auto.choose_engine(bundle, EngineOptions("fp32", threads=2), cache_dir=tmp_path)
        assert len(self.measured) == 4

    def test_another_gpu_measures_again(
        self, bundle, speeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """A cache that moves to another machine, or a card that is exchanged, is noticed."""
        speeds["tensorrt"] = 3.0
        options = EngineOptions("fp32", threads=1, device="cuda")
        for gpu, expected in (("L4", "tensorrt"), ("H100", "onnx"), ("L4", "tensorrt")):
            monkeypatch.setattr(auto, "gpu_name", lambda _device, gpu=gpu: gpu)
            assert auto.choose_engine(bundle, options, cache_dir=tmp_path)[0] == expected
            speeds["onnx"] = 9.0
        assert self.measured == ["onnx", "tensorrt"] * 2

    def test_engine_that_fails_is_not_chosen(self, bundle, speeds, tmp_path: Path):
        """A runtime that cannot run the bundle loses; if all fail, the reasons are given."""
        speeds["openvino"] = -1
        assert auto.choose_engine(bundle, OPTIONS, cache_dir=None)[0] == "onnx"
        speeds["onnx"] = -1
        with pytest.raises(EngineError, match="onnx fails; openvino fails"):
            auto.choose_engine(bundle, OPTIONS, cache_dir=None)

    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", '{"format_version": 2, "engine": "onnx"}', '{"format_version": 1}'],
    )
    def test_unreadable_memory_measures_again(self, bundle, speeds, tmp_path: Path, content: str):
        """A damaged or unknown cache file costs a measurement, never a start."""
        auto.choose_engine(bundle, OPTIONS, cache_dir=tmp_path)
        [file] = tmp_path.iterdir()
        assert json.loads(file.read_text())["engine"] == "openvino"
        file.write_text(content)
        assert auto.choose_engine(bundle, OPTIONS, cache_dir=tmp_path)[0] == "openvino"
        assert len(self.measured) == 4

    def test_unwritable_cache_is_no_error(self, bundle, speeds, tmp_path: Path):
        """A read-only root file system costs a measurement at each start, nothing more."""
        blocked = tmp_path / "file"
        blocked.write_text("not a folder")
        assert auto.choose_engine(bundle, OPTIONS, cache_dir=blocked)[0] == "openvino"

    def test_one_candidate_is_not_measured(self, bundle, monkeypatch: pytest.MonkeyPatch):
        """With the base install alone there is nothing to compare."""
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "onnxruntime" or None)
        assert auto.choose_engine(bundle, OPTIONS, cache_dir=None) == ("onnx", {})


class FakeDriver:
    """libcuda with two GPUs, as ctypes shows it."""

    NAMES = (b"NVIDIA L4", b"NVIDIA H100 80GB HBM3")

    def cuInit(self, _flags: int) -> int:  # noqa: N802 (CUDA's name)
        """Well."""
        return 0

    def cuDeviceGet(self, handle: Any, index: int) -> int:  # noqa: N802, ANN401
        """Give the handle, which is no index."""
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
