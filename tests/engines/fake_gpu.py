"""A GPU of our own making: memory by address, and a TensorRT that repeats pixels."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import numpy.typing as npt

from tests.bundles import SCALE, TILE_PX


class FakeCuda:
    """Memory by address; work on a stream is done at once, or when a captured graph is started."""

    def __init__(self, _device: str) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.num_graphs = 0
        self.closed = False

    def use(self) -> None:
        """Nothing to choose from."""

    def compute_capability(self) -> int:
        """An RTX 40."""
        return 89

    def device_buffer(self, num_bytes: int) -> int:
        """Bytes that have not been written yet."""
        address = 1000 * (len(self.memory) + 1)
        self.memory[address] = np.full(num_bytes, 99, dtype=np.uint8)
        return address

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """An array that has not been written yet."""
        return np.full(shape, 77, dtype=dtype)

    def stream(self) -> int:
        """One is like another."""
        return 1

    def upload(self, address: int, array: np.ndarray, _stream: int) -> None:
        """Copy at once."""
        assert array.flags.c_contiguous
        self.memory[address][: array.nbytes] = array.reshape(-1).view(np.uint8)

    def download(self, array: np.ndarray, address: int, _stream: int) -> None:
        """Copy at once."""
        assert array.flags.c_contiguous
        array[...] = self.memory[address][: array.nbytes].view(array.dtype).reshape(array.shape)

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

    def __init__(self, batch: int, cuda: FakeCuda) -> None:
        self.batch, self.cuda = batch, cuda
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Remember it."""
        self.addresses[name] = address
        return True

    def execute_async_v3(self, _stream: int) -> bool:
        """Repeat pixels, flawlessly."""
        memory = self.cuda.memory
        count = self.batch * TILE_PX**2
        lr = memory[self.addresses["lr"]][:count].reshape(self.batch, 1, TILE_PX, TILE_PX)
        sr = lr.repeat(SCALE, axis=2).repeat(SCALE, axis=3).reshape(-1)
        memory[self.addresses["sr"]][: sr.size] = sr
        flags = np.tile(np.array([0, 0, 1, 1, 0, 0], dtype=np.float32), self.batch)
        memory[self.addresses["flags"]][: flags.nbytes] = flags.view(np.uint8)
        return True


class FakeTensorrt(ModuleType):
    """A module whose plans are their batch size in one byte."""

    __version__ = "11.4.0"

    def __init__(self, cuda: FakeCuda | None = None, *, refuses: bool = False) -> None:
        super().__init__("tensorrt")
        gpu = cuda or FakeCuda("cuda")

        def deserialize_cuda_engine(plan: bytes) -> object:
            if refuses:
                return None
            return SimpleNamespace(create_execution_context=lambda: FakeContext(plan[0], gpu))

        class Logger:
            WARNING = 1

            def __init__(self, _level: int) -> None:
                pass

        self.Logger = Logger
        self.Runtime = lambda _logger: SimpleNamespace(
            deserialize_cuda_engine=deserialize_cuda_engine
        )
