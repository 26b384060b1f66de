"""The engine `torch`: half precision from end to end, and its lanes, run on torch's CPU device."""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle_format.bundle import FLAGS, Bundle, Golden, Precision, load_bundle
from engines.batches import run_batch
from engines.golden import golden_problem
from engines.gpu_lanes import LANES
from engines.protocol import Engine, EngineOptions, Tile
from engines.registry import load_engine
from export import torch_engine
from export.to_onnx import GreyLevels
from export.torch_engine import TorchEngine
from export.torch_lanes import Outputs
from models import load_generator

ROOT = Path(__file__).resolve().parents[2]
TINY_BUNDLE = ROOT / "tests" / "data" / "tiny_bundle"
OPTIONS = EngineOptions(precision="fp32", threads=1)
SHIPPED = [ROOT / "bundles" / "default", ROOT / "bundles" / "fast"]
TILE_PX = 24
SCALE = 4


class HostStream:
    """A stream of the CPU that counts.

    Attributes:
        device: The CPU.
        uploads: Bytes and address on the host of every copy to the device.
        downloads: The same of every copy to the host.
        replays: Number of launches of a recorded graph.
    """

    device = torch.device("cpu")
    made: list["HostStream"]

    def __init__(self, _device: object = None) -> None:
        self.uploads: list[tuple[int, int]] = []
        self.downloads: list[tuple[int, int]] = []
        self.replays = 0
        self.made.append(self)

    @contextmanager
    def use(self) -> Iterator[None]:
        """As on a GPU, without gradients."""
        with torch.inference_mode():
            yield

    def staging(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Memory that has not been written yet."""
        return torch.full(shape, torch.nan)

    def upload(self, target: torch.Tensor, tile: Tile) -> None:
        """Copy at once."""
        self.uploads.append((tile.nbytes, tile.ctypes.data))
        target.copy_(torch_engine.host_tensor(tile))

    def download(self, tile: Tile, source: torch.Tensor) -> None:
        """Copy at once."""
        self.downloads.append((tile.nbytes, tile.ctypes.data))
        torch.from_numpy(tile).copy_(source)

    def synchronize(self) -> None:
        """Nothing is ever pending."""

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        """As a CUDA graph: the same memory is written at each replay."""
        with self.use():
            outputs = work()

        def replay() -> None:
            self.replays += 1
            for kept, computed in zip(outputs, work(), strict=True):
                kept.copy_(computed)

        return outputs, replay


class NoLocks:
    """Host memory needs no lock to be copied on the host."""

    def __init__(self, _device: object) -> None:
        self.locked: list[np.ndarray] = []

    def lock(self, memory: np.ndarray) -> None:
        """Record it."""
        self.locked.append(memory)

    def close(self) -> None:
        """Forget it."""
        self.locked.clear()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """A real exported network of two blocks; its largest batch is 4."""
    return load_bundle(TINY_BUNDLE)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[HostStream]:
    """The streams of the lanes, once an engine on a GPU is loaded: the CPU stands for it."""
    made: list[HostStream] = []
    monkeypatch.setattr(HostStream, "made", made, raising=False)
    monkeypatch.setattr(torch_engine, "CudaStream", HostStream)
    monkeypatch.setattr(torch_engine, "PageLocks", NoLocks)
    monkeypatch.setattr(torch_engine, "cuda_device", lambda _: torch.device("cpu"))
    return made


def on_lanes(bundle: Bundle, precision: Precision = "fp32") -> TorchEngine:
    """The engine as on a GPU."""
    return TorchEngine(bundle, replace(OPTIONS, device="cuda", precision=precision))


def tiles_and_answers(count: int, side: int = TILE_PX) -> tuple[list[Tile], list[Tile]]:
    """Random tiles, and memory for their answers inside one large buffer."""
    lr = np.random.default_rng(count).integers(0, 256, (count, side, side), dtype=np.uint8)
    sr = np.full((count, SCALE * side, SCALE * side), 77, dtype=np.uint8)
    return list(lr), list(sr)


def expected(bundle: Bundle, lr: list[Tile]) -> np.ndarray:
    """Answers of the engine on the CPU, without lanes."""
    return run_batch(load_engine("torch", bundle, OPTIONS), np.stack(lr)[:, None]).sr[:, 0]


class TestHalfPrecision:
    """FP16 and BF16 without autocast: the whole network, and nothing else."""

    @pytest.mark.parametrize("path", [TINY_BUNDLE, *SHIPPED], ids=lambda path: path.name)
    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_it_reproduces_the_golden_tile(self, path: Path, precision: Precision) -> None:
        """Within the tolerance that a GPU's answer is judged by, and with the same flags."""
        bundle = load_bundle(path)
        generator, _ = load_generator(path / "model.safetensors")
        # A corner of it: FP16 is imitated on a CPU, and slow.
        lr = np.ascontiguousarray(bundle.golden().lr[:, :, :96, :96])
        tiles = torch.from_numpy(lr)
        network = GreyLevels(
            generator, bundle.manifest.trust, dtype=torch_engine._DTYPES[precision]
        )
        with torch.inference_mode():
            answers, flags = network(tiles)
            exact, exact_flags = GreyLevels(generator, bundle.manifest.trust)(tiles)

        golden = Golden(lr, exact.numpy())
        assert golden_problem(answers.numpy(), golden, precision=precision) is None
        assert flags.dtype == torch.float32
        np.testing.assert_allclose(flags, exact_flags, atol=0.02)

    def test_no_layer_computes_in_fp32(self, bundle: Bundle) -> None:
        """Weights, inputs and outputs of every layer are in FP16; the flags' limits stay FP32."""
        generator, _ = load_generator(bundle.path / "model.safetensors")
        network = GreyLevels(generator, bundle.manifest.trust, dtype=torch.float16)
        seen: set[torch.dtype] = set()
        for layer in network.network.modules():
            layer.register_forward_hook(
                lambda _, inputs, output: seen.update({inputs[0].dtype, output.dtype})
            )
        with torch.inference_mode():
            network(torch.zeros((1, 1, TILE_PX, TILE_PX), dtype=torch.uint8))

        assert {torch.float16} == seen
        assert {torch.float16} == {weight.dtype for weight in network.network.parameters()}
        assert {torch.float32} == {limit.dtype for limit in network.judge.buffers()}

    def test_all_greys_survive_bf16(self) -> None:
        """The grain is a hash of grey levels, so the network must see exactly the tile's."""
        greys = torch.arange(256) / 255
        for dtype in (torch.float16, torch.bfloat16):
            assert torch.equal(torch.round(greys.to(dtype).float() * 255), torch.arange(256.0))


class TestLanes:
    """The lanes' own logic: batch sizes, addresses, numbers of copies and launches."""

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
    def test_every_batch_gets_its_own_answers(
        self, bundle: Bundle, streams: list[HostStream], count: int
    ) -> None:
        """Small batches are filled up, larger ones run freely; nothing of another batch is left."""
        engine = on_lanes(bundle)
        for _ in range(LANES + 1):
            lr, sr = tiles_and_answers(count)
            flags = engine.run(lr, sr)
            np.testing.assert_array_equal(sr, expected(bundle, lr))
            assert (flags.shape, flags.dtype) == ((count, len(FLAGS)), np.float32)
            assert np.isfinite(flags).all()

    @pytest.mark.parametrize(("count", "side"), [(1, TILE_PX), (3, TILE_PX), (5, TILE_PX), (2, 17)])
    def test_tiles_and_answers_are_copied_once(
        self, bundle: Bundle, streams: list[HostStream], count: int, side: int
    ) -> None:
        """Straight from and to the caller's memory, for prepared batch sizes and all others."""
        engine = on_lanes(bundle)
        lr, sr = tiles_and_answers(count, side)
        engine.run(lr, sr)

        used = [stream for stream in streams if stream.uploads]
        assert [[(tile.nbytes, tile.ctypes.data) for tile in lr]] == [s.uploads for s in used]
        assert [[(tile.nbytes, tile.ctypes.data) for tile in sr]] == [s.downloads for s in used]

    def test_a_batch_is_one_launch(
        self, bundle: Bundle, streams: list[HostStream], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The smallest graph that holds the tiles; the network itself where none does."""
        sizes: list[int] = []
        forward = GreyLevels.forward
        monkeypatch.setattr(
            GreyLevels, "forward", lambda self, lr: (sizes.append(len(lr)), forward(self, lr))[1]
        )
        engine = on_lanes(bundle)
        assert {1, 2, 4} == set(sizes)
        sizes.clear()
        for count in (1, 2, 3, 4, 5):
            engine.run(*tiles_and_answers(count))

        assert [1, 2, 4, 4, 5] == sizes
        assert sum(stream.replays for stream in streams) == 4

    def test_lanes_share_no_memory(self, bundle: Bundle, streams: list[HostStream]) -> None:
        """As many batches at once as slots, each with its own answers."""
        engine = on_lanes(bundle)
        batches = [tiles_and_answers(1 + number % 4) for number in range(24)]
        with ThreadPoolExecutor(engine.slots) as pool:
            list(pool.map(lambda batch: engine.run(*batch), batches))
        assert (LANES, LANES) == (engine.slots, len(streams))
        for lr, sr in batches:
            np.testing.assert_array_equal(sr, expected(bundle, lr))

    def test_closing_unlocks_the_memory(
        self, bundle: Bundle, streams: list[HostStream], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was registered is locked until then."""
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        engine, memory = on_lanes(bundle), np.zeros(4096, dtype=np.uint8)
        engine.register(memory)
        locks = engine._locks
        assert isinstance(locks, NoLocks)
        assert [memory.ctypes.data] == [locked.ctypes.data for locked in locks.locked]
        engine.close()
        assert [] == locks.locked

    def test_fusing_compiles_before_the_first_request(
        self, bundle: Bundle, streams: list[HostStream], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each batch size once for all lanes; other shapes run unfused."""
        compiled: list[int] = []
        compile_ = torch.compile

        def backend(module: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
            compiled.append(next(len(value) for value in inputs if value.dtype == torch.uint8))
            return module.forward

        monkeypatch.setattr(
            torch,
            "compile",
            lambda network, **options: compile_(network, backend=backend, **options),
        )
        engine = TorchEngine(bundle, replace(OPTIONS, device="cuda", fuse=True))
        assert [1, 2, 4] == compiled
        for count in (1, 3, 5):
            lr, sr = tiles_and_answers(count)
            engine.run(lr, sr)
            np.testing.assert_array_equal(sr, expected(bundle, lr))
        assert [1, 2, 4] == compiled


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tiles_that_may_not_be_written_do_not_warn(
    bundle: Bundle, streams: list[HostStream], count: int, device: str
) -> None:
    """A tile may be a view of the bytes that a client sent."""
    engine: Engine = TorchEngine(bundle, replace(OPTIONS, device=device))
    lr, sr = tiles_and_answers(count)
    received = [np.frombuffer(tile.tobytes(), dtype=np.uint8).reshape(tile.shape) for tile in lr]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.run(received, sr)
    np.testing.assert_array_equal(sr, expected(bundle, lr))
