"""An NVIDIA GPU for the lanes of the engine `torch`: streams, copies, graphs, locked pages."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engines.protocol import EngineError, Tile
from export.torch_lanes import Outputs

_PORTABLE = 1  # cudaHostRegisterPortable


class CudaStream:
    """One stream of a GPU; see `export.torch_lanes.Stream`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)
        # The network's weights are still being converted on the stream of the loading thread.
        self._stream.wait_stream(torch.cuda.current_stream(device))

    @contextmanager
    def use(self) -> Iterator[None]:
        """Let the work of the block run on this stream."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            yield

    def staging(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a float32 tensor in page-locked memory of the host."""
        return torch.empty(shape).pin_memory()

    def upload(self, target: torch.Tensor, tile: Tile) -> None:
        """Start to copy a tile to the card; memory that is not page-locked is copied at once."""
        target.copy_(host_tensor(tile), non_blocking=True)

    def download(self, tile: Tile, source: torch.Tensor) -> None:
        """Start to copy from the card to a tile, as `upload`."""
        torch.from_numpy(tile).copy_(source, non_blocking=True)

    def synchronize(self) -> None:
        """Wait until everything on the stream is done; the GIL is free meanwhile."""
        self._stream.synchronize()

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        """Record the work as a CUDA graph; returns its outputs and a function that launches it."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may serve another version of the model meanwhile, and allocate memory.
        with (
            torch.inference_mode(),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            outputs = work()
        return outputs, graph.replay


class PageLocks:
    """Memory of the host that is page-locked for the GPU until `close`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # By address; kept, because memory must not be freed while it is locked.
        self._locked: dict[int, npt.NDArray[np.uint8]] = {}

    def lock(self, memory: npt.NDArray[np.uint8]) -> None:
        """Page-lock memory."""
        address = memory.ctypes.data
        self._call("cudaHostRegister", address, memory.nbytes, _PORTABLE)
        self._locked[address] = memory

    def close(self) -> None:
        """Unlock all memory."""
        while self._locked:
            address, _ = self._locked.popitem()
            self._call("cudaHostUnregister", address)

    def _call(self, name: str, *arguments: int) -> None:
        cudart: Any = torch.cuda.cudart()
        # Else a thread that has not used the GPU yet would take the first one of the machine.
        with torch.cuda.device(self._device):
            torch.cuda.check_error(int(getattr(cudart, name)(*arguments)))


def host_tensor(array: npt.NDArray[np.uint8]) -> torch.Tensor:
    """View an array as a tensor; it must outlive the tensor.

    `torch.from_numpy` warns of arrays that may not be written, such as those of received bytes.
    """
    if array.flags.writeable:
        return torch.from_numpy(array)
    memory = (ctypes.c_uint8 * array.nbytes).from_address(array.ctypes.data)
    return torch.frombuffer(memory, dtype=torch.uint8).view(array.shape)


def cuda_device(name: str) -> torch.device:
    """Return the GPU that `cuda` or `cuda:N` means.

    Raises:
        EngineError: It does not exist.
    """
    if not torch.cuda.is_available():
        raise EngineError(
            f"engine 'torch' cannot use {name}: torch {torch.__version__} finds no usable GPU"
        )
    device = torch.device(name)
    if (device.index or 0) >= torch.cuda.device_count():
        raise EngineError(
            f"engine 'torch' cannot use {name}: there are {torch.cuda.device_count()} GPUs"
        )
    return device
