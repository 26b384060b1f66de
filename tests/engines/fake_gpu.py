"""A GPU of our own making: memory by address, and a TensorRT that repeats pixels."""

import ctypes
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import numpy.typing as npt

from tests.bundles import SCALE, TILE_PX


class FakeCuda:
    """A GPU whose memory is the host's; work on a stream is done at once, or with its graph.

    Attributes:
        copied: Bytes and address on the host of every copy so far, in either direction.
        registered: Memory that was page-locked.
    """

    def __init__(self, _device: str) -> None:
        self._memory: list[np.ndarray] = []
        self.copied: list[tuple[int, int]] = []
        self.registered: list[np.ndarray] = []
        self.num_graphs = 0
        self.closed = False

    def use(self) -> None:
        """Nothing to choose from."""

    def compute_capability(self) -> int:
        """An RTX 40."""
        return 89

    def device_buffer(self, num_bytes: int) -> int:
        """Bytes that have not been written yet."""
        self._memory.append(np.full(num_bytes, 99, dtype=np.uint8))
        return self._memory[-1].ctypes.data

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """An array that has not been written yet."""
        return np.full(shape, 77, dtype=dtype)

    def register(self, memory: np.ndarray) -> None:
        """Record it."""
        self.registered.append(memory)

    def clear(self, address: int, num_bytes: int, _stream: int) -> None:
        """Clear at once."""
        ctypes.memset(address, 0, num_bytes)

    def stream(self) -> int:
        """One is like another."""
        return 1

    def upload(self, address: int, array: np.ndarray, _stream: int) -> None:
        """Copy at once."""
        assert array.flags.c_contiguous
        self.copied.append((array.nbytes, array.ctypes.data))
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array: np.ndarray, address: int, _stream: int) -> None:
        """Copy at once."""
        assert array.flags.c_contiguous
        self.copied.append((array.nbytes, array.ctypes.data))
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def synchronize(self, _stream: int) -> None:
        """Nothing is ever pending."""

    def capture(self, work: Callable[[], None], _stream: int) -> Callable[[], None]:
        """Run it once, and count it."""
        work()
        self.num_graphs += 1
        return work

    def close(self) -> None:
        """Remember it."""
        self.closed = True


class FakeContext:
    """Repeats the pixels of one batch size."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Remember it."""
        self.addresses[name] = address
        return True

    def execute_async_v3(self, _stream: int) -> bool:
        """Repeat pixels, flawlessly."""
        count = self.batch * TILE_PX**2
        content = ctypes.string_at(self.addresses["lr"], count)
        lr = np.frombuffer(content, np.uint8).reshape(self.batch, 1, TILE_PX, TILE_PX)
        sr = lr.repeat(SCALE, axis=2).repeat(SCALE, axis=3)
        ctypes.memmove(self.addresses["sr"], sr.ctypes.data, sr.nbytes)
        flags = np.tile(np.array([0, 0, 1, 1, 0, 0], dtype=np.float32), self.batch)
        ctypes.memmove(self.addresses["flags"], flags.ctypes.data, flags.nbytes)
        return True


class FakeTensorrt(ModuleType):
    """A module whose plans are their batch size in one byte."""

    __version__ = "11.4.0"

    def __init__(self, *, refuses: bool = False) -> None:
        super().__init__("tensorrt")

        def deserialize_cuda_engine(plan: bytes) -> object:
            if refuses:
                return None
            return SimpleNamespace(create_execution_context=lambda: FakeContext(plan[0]))

        class Logger:
            WARNING = 1

            def __init__(self, _level: int) -> None:
                pass

        self.Logger = Logger
        self.Runtime = lambda _logger: SimpleNamespace(
            deserialize_cuda_engine=deserialize_cuda_engine
        )
