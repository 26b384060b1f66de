"""ONNX Runtime's lanes: the real runtime on the CPU, on buffers whose copies are counted.

`FakeCuda` stands for the GPU, so that addresses, batch sizes and the choice between the ways are
those of a GPU; the provider's options and CUDA graphs are not tested here.
"""

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from bundle_format.bundle import FLAGS, Bundle, load_bundle
from engines import onnx_engine, onnx_lanes, onnx_sessions
from engines.batches import run_batch
from engines.gpu_lanes import LANES
from engines.onnx_engine import OnnxEngine
from engines.protocol import EngineError, EngineOptions, Tile
from tests.engines.fake_gpu import FakeCuda

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"
OPTIONS = EngineOptions(precision="fp32", threads=1, device="cuda")
TILE_PX = 24
SCALE = 4


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """A real exported network of two blocks; its largest batch is 4."""
    return load_bundle(TINY_BUNDLE)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """The GPU that the engine gets; ONNX Runtime computes on the CPU, from and to its buffers."""
    gpu = FakeCuda()
    monkeypatch.setattr(onnx_engine, "Cuda", lambda _device, engine: gpu)
    monkeypatch.setattr(onnx_engine, "ORT_GPU", "cpu")
    monkeypatch.setattr(onnx_sessions, "_providers", lambda _: [("CPUExecutionProvider", {})])
    monkeypatch.setattr(onnx_lanes, "WAYS", ({},))
    return gpu


def tiles_and_answers(count: int, side: int = TILE_PX) -> tuple[list[Tile], list[Tile]]:
    """Random tiles, and memory for their answers inside one large buffer."""
    lr = np.random.default_rng(count).integers(0, 256, (count, side, side), dtype=np.uint8)
    sr = np.full((count, SCALE * side, SCALE * side), 77, dtype=np.uint8)
    return list(lr), list(sr)


def expected(bundle: Bundle, lr: list[Tile]) -> np.ndarray:
    """Answers of the engine on the CPU, without lanes."""
    engine = OnnxEngine(bundle, replace(OPTIONS, device="cpu"))
    return run_batch(engine, np.stack(lr)[:, None]).sr[:, 0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_every_batch_gets_its_own_answers(bundle: Bundle, cuda: FakeCuda, count: int) -> None:
    """Small batches are filled up, large ones are split, nothing of another batch is left."""
    engine = OnnxEngine(bundle, OPTIONS)
    for _ in range(LANES + 1):
        lr, sr = tiles_and_answers(count)
        flags = engine.run(lr, sr)
        np.testing.assert_array_equal(sr, expected(bundle, lr))
        assert (flags.shape, flags.dtype) == ((count, len(FLAGS)), np.float32)
        assert np.isfinite(flags).all()


def test_tiles_and_answers_are_copied_once(bundle: Bundle, cuda: FakeCuda) -> None:
    """Straight from and to the caller's memory; the flags are the only further copy."""
    engine = OnnxEngine(bundle, OPTIONS)
    lr, sr = tiles_and_answers(3)
    cuda.copied.clear()
    engine.run(lr, sr)
    flags_bytes = 3 * 4 * len(FLAGS)

    assert [(tile.nbytes, tile.ctypes.data) for tile in (*lr, *sr)] == cuda.copied[:-1]
    assert flags_bytes == cuda.copied[-1][0]


def test_other_shapes_are_copied_by_the_runtime(bundle: Bundle, cuda: FakeCuda) -> None:
    """Buffers have the bundle's shape."""
    engine = OnnxEngine(bundle, OPTIONS)
    cuda.copied.clear()
    lr, sr = tiles_and_answers(2, side=17)
    engine.run(lr, sr)

    assert [] == cuda.copied
    np.testing.assert_array_equal(sr, expected(bundle, lr))


def test_lanes_share_no_buffers(bundle: Bundle, cuda: FakeCuda) -> None:
    """As many batches at once as slots, each with its own answers."""
    engine = OnnxEngine(bundle, OPTIONS)
    batches = [tiles_and_answers(1 + number % 4) for number in range(24)]
    with ThreadPoolExecutor(engine.slots) as pool:
        list(pool.map(lambda batch: engine.run(*batch), batches))
    assert engine.slots == LANES
    for lr, sr in batches:
        np.testing.assert_array_equal(sr, expected(bundle, lr))


def test_memory_is_locked_and_freed(bundle: Bundle, cuda: FakeCuda) -> None:
    """What is registered, until the engine is closed."""
    engine, memory = OnnxEngine(bundle, OPTIONS), np.zeros(4096, dtype=np.uint8)
    engine.register(memory)
    assert [memory.ctypes.data] == [locked.ctypes.data for locked in cuda.registered]
    engine.close()
    assert cuda.closed


def test_a_lane_with_cuda_graphs_has_a_thread_of_its_own(
    bundle: Bundle, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime would record the graphs again for each thread of the service."""
    monkeypatch.setattr(onnx_lanes, "WAYS", ({"enable_cuda_graph": "1"},))
    threads: set[tuple[int, str | None, str]] = set()
    run = onnxruntime.InferenceSession.run_with_iobinding

    def record(
        session: onnxruntime.InferenceSession,
        binding: onnxruntime.IOBinding,
        options: onnxruntime.RunOptions | None = None,
    ) -> None:
        graph = options.get_run_config_entry("gpu_graph_id") if options else None
        threads.add((id(session), graph, threading.current_thread().name))
        run(session, binding, options)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", record)
    engine = OnnxEngine(bundle, OPTIONS)
    batches = [tiles_and_answers(1 + number % 4) for number in range(24)]
    with ThreadPoolExecutor(engine.slots) as pool:
        list(pool.map(lambda batch: engine.run(*batch), batches))

    assert len(threads) == 3 * LANES
    assert {"1", "2", "4"} == {graph for _, graph, _ in threads}
    assert len({(session, thread) for session, _, thread in threads}) == LANES
    for lr, sr in batches:
        np.testing.assert_array_equal(sr, expected(bundle, lr))


class TestWays:
    """The first way that reproduces the golden tile is taken, and the log names the others."""

    WAYS = ({"prefer_nhwc": "1", "enable_cuda_graph": "1"}, {"prefer_nhwc": "1"}, {})

    @pytest.fixture
    def failures(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        """Make the ways that use an option fail, by error or by a wrong answer."""
        failures: dict[str, str] = {}
        monkeypatch.setattr(onnx_lanes, "WAYS", self.WAYS)
        make = onnx_engine.make_session

        class Wrong:
            """A session that computes nothing."""

            def __init__(self, session: onnxruntime.InferenceSession) -> None:
                self.io_binding = session.io_binding

            def run_with_iobinding(self, *_: object) -> None:
                """Leave the buffers as they are."""

        def make_session(
            graph: bytes,
            bundle: Bundle,
            options: EngineOptions,
            provider_options: Mapping[str, str] | None = None,
        ) -> object:
            for option in provider_options or {}:
                if failures.get(option) == "error":
                    raise EngineError(f"unknown option {option}")
            session = make(graph, bundle, options)
            is_wrong = any(failures.get(option) == "wrong" for option in provider_options or {})
            return Wrong(session) if is_wrong else session

        monkeypatch.setattr(onnx_engine, "make_session", make_session)
        return failures

    @pytest.mark.parametrize(
        ("failing", "warnings"),
        [
            ({}, []),
            ({"enable_cuda_graph": "error"}, ["unknown option enable_cuda_graph"]),
            ({"enable_cuda_graph": "wrong"}, ["in batches of 1, max error"]),
            ({"prefer_nhwc": "error"}, ["unknown option prefer_nhwc"] * 2),
        ],
    )
    def test_the_first_right_one_is_taken(
        self,
        bundle: Bundle,
        cuda: FakeCuda,
        failures: dict[str, str],
        caplog: pytest.LogCaptureFixture,
        failing: dict[str, str],
        warnings: list[str],
    ) -> None:
        """An option that ONNX Runtime refuses, or that gives other pixels, is left out."""
        failures.update(failing)
        with caplog.at_level(logging.WARNING):
            engine = OnnxEngine(bundle, OPTIONS)

        assert engine.slots == LANES
        assert len(warnings) == len(caplog.messages)
        for words, message in zip(warnings, caplog.messages, strict=True):
            assert words in message
            assert "cannot keep tiles on the GPU" in message
        lr, sr = tiles_and_answers(3)
        engine.run(lr, sr)
        np.testing.assert_array_equal(sr, expected(bundle, lr))

    def test_without_a_right_one_the_runtime_copies(
        self,
        bundle: Bundle,
        cuda: FakeCuda,
        failures: dict[str, str],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The way that has run on a GPU: one slot, tiles and answers bound on the host."""
        monkeypatch.setattr(onnx_lanes, "WAYS", self.WAYS[:2])
        failures["prefer_nhwc"] = "wrong"
        with caplog.at_level(logging.WARNING):
            engine = OnnxEngine(bundle, OPTIONS)
        cuda.copied.clear()
        lr, sr = tiles_and_answers(3)
        engine.run(lr, sr)

        assert (1, []) == (engine.slots, cuda.copied)
        assert len(caplog.messages) == 2
        np.testing.assert_array_equal(sr, expected(bundle, lr))

    def test_without_the_bindings_the_runtime_copies(
        self,
        bundle: Bundle,
        cuda: FakeCuda,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The log names the missing package."""

        def missing(_device: str, *, engine: str) -> None:
            raise EngineError(f"engine {engine!r} needs the package 'cuda-bindings'")

        monkeypatch.setattr(onnx_engine, "Cuda", missing)
        with caplog.at_level(logging.WARNING):
            engine = OnnxEngine(bundle, OPTIONS)
        lr, sr = tiles_and_answers(2)
        engine.run(lr, sr)
        engine.register(np.zeros(4096, dtype=np.uint8))
        engine.close()

        assert engine.slots == 1
        assert "needs the package 'cuda-bindings'" in caplog.text
        np.testing.assert_array_equal(sr, expected(bundle, lr))
