"""A GPU in the host's memory, which counts copies: for the engines' own logic, not for CUDA."""

import ctypes

import numpy as np
import numpy.typing as npt


class FakeCuda:
    """A GPU whose memory is the host's; work on a stream is done at once.

    Attributes:
        copied: Bytes and address on the host of every copy so far, in either direction.
        registered: Memory that was page-locked.
    """

    def __init__(self) -> None:
        self._memory: list[np.ndarray] = []
        self.copied: list[tuple[int, int]] = []
        self.registered: list[np.ndarray] = []
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

    def close(self) -> None:
        """Remember it."""
        self.closed = True
