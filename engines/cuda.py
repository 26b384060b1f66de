"""The parts of CUDA that an engine needs next to its runtime: memory, streams, graphs."""

# The bindings ship no complete type information.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import ctypes
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.installation import install_hint
from engines.protocol import EngineError

_MAX_NAME_BYTES = 256
# What the runtime says without a driver, too: it has found version 0.
_TOO_OLD = "cudaErrorInsufficientDriver"
_ABSENT = {_TOO_OLD, "cudaErrorNoDevice", "cudaErrorStubLibrary"}


def gpu_name(device: str) -> str:
    """Name of the GPU that `cuda` or `cuda:N` means, as its driver gives it; "" where none is.

    The driver's library is called directly, because a Python binding may be missing.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    handle, name = ctypes.c_int(), ctypes.create_string_buffer(_MAX_NAME_BYTES)
    is_known = (
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(handle), device_index(device)) == 0
        and driver.cuDeviceGetName(name, _MAX_NAME_BYTES, handle) == 0
    )
    return name.value.decode(errors="replace") if is_known else ""


class Cuda:
    """One GPU; `close` frees all its memory and handles.

    Raises:
        EngineError: The bindings, the driver or the GPU are missing.
    """

    def __init__(self, device: str, *, engine: str) -> None:
        """Take a GPU.

        Args:
            device: `cuda` or `cuda:N`.
            engine: Name of the engine, for errors.
        """
        try:
            runtime = importlib.import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise EngineError(
                f"engine {engine!r} needs the package 'cuda-bindings' ({error}); "
                f"on RTX cards {install_hint('rtx')}; on others {install_hint('gpu')}"
            ) from error
        self._runtime: Any = runtime
        self._index = device_index(device)
        count = self._call("cudaGetDeviceCount")
        if self._index >= count:
            raise EngineError(f"engine {engine!r} cannot use {device}: there are {count} GPUs")
        self._device_buffers: list[int] = []
        self._host_buffers: list[int] = []
        # By address; kept, because memory must not be freed while it is locked.
        self._registered: dict[int, npt.NDArray[np.uint8]] = {}
        self._streams: list[Any] = []
        self._graphs: list[Any] = []
        self.use()

    def use(self) -> None:
        """Select this GPU for the calling thread."""
        self._call("cudaSetDevice", self._index)

    def compute_capability(self) -> int:
        """Return ten times the compute capability, such as 89."""
        names = self._runtime.cudaDeviceAttr
        major, minor = (
            self._call("cudaDeviceGetAttribute", attribute, self._index)
            for attribute in (
                names.cudaDevAttrComputeCapabilityMajor,
                names.cudaDevAttrComputeCapabilityMinor,
            )
        )
        return 10 * int(major) + int(minor)

    def device_buffer(self, num_bytes: int) -> int:
        """Allocate memory on the GPU; return its address."""
        address = int(self._call("cudaMalloc", num_bytes))
        self._device_buffers.append(address)
        return address

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array in page-locked memory, which the GPU can copy by itself."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        flags = self._runtime.cudaHostAllocDefault
        address = int(self._call("cudaHostAlloc", size, flags))
        self._host_buffers.append(address)
        raw = (ctypes.c_uint8 * size).from_address(address)
        return np.ctypeslib.as_array(raw).view(kind).reshape(shape)

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Page-lock memory that the process has already, for every GPU, until `close`."""
        address = memory.ctypes.data
        flags = self._runtime.cudaHostRegisterPortable
        self._call("cudaHostRegister", address, memory.nbytes, flags)
        self._registered[address] = memory

    def clear(self, address: int, num_bytes: int, stream: int) -> None:
        """Start to set memory on the GPU to zero."""
        self._call("cudaMemsetAsync", address, 0, num_bytes, stream)

    def stream(self) -> int:
        """Return the handle of a new stream."""
        flags = self._runtime.cudaStreamNonBlocking
        stream = self._call("cudaStreamCreateWithFlags", flags)
        self._streams.append(stream)
        return int(stream)

    def upload(self, address: int, array: npt.NDArray[Any], stream: int) -> None:
        """Start to copy an array to the GPU; one that is not page-locked is copied at once."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, stream)

    def download(self, array: npt.NDArray[Any], address: int, stream: int) -> None:
        """Start to copy from the GPU to an array, as `upload`."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, stream)

    def synchronize(self, stream: int) -> None:
        """Wait until everything on a stream is done; the GIL is free meanwhile."""
        self._call("cudaStreamSynchronize", stream)

    def capture(self, work: Callable[[], None], stream: int) -> Callable[[], None]:
        """Record the work on a stream as a graph; returns a function that launches it."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            work()
        finally:
            graph = self._call("cudaStreamEndCapture", stream)
        executable = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)
        self._graphs.append(executable)
        return lambda: self._call("cudaGraphLaunch", executable, stream)

    def close(self) -> None:
        """Free everything; arrays from `pinned` must not be used any more."""
        self.use()
        for name, items in (
            ("cudaGraphExecDestroy", self._graphs),
            ("cudaStreamDestroy", self._streams),
            ("cudaFree", self._device_buffers),
            ("cudaFreeHost", self._host_buffers),
        ):
            while items:
                self._call(name, items.pop())
        while self._registered:
            address, _ = self._registered.popitem()
            self._call("cudaHostUnregister", address)

    def _call(self, name: str, *arguments: object) -> Any:  # noqa: ANN401 - results of CUDA
        status, *results = getattr(self._runtime, name)(*arguments)
        if int(status) != 0:
            raise EngineError(_failure(name, str(status.name)))
        return results[0] if results else None


def _failure(call: str, status: str) -> str:
    """Explain a status of CUDA if the machine causes it, else name the failed call."""
    if status not in _ABSENT:
        return f"{call} failed: {status}"
    if status == _TOO_OLD and gpu_name("cuda"):
        return f"the NVIDIA driver is too old for the installed CUDA packages ({status})"
    return f"no NVIDIA GPU or driver found ({status})"


def device_index(device: str) -> int:
    """Return the index of the GPU that `cuda` or `cuda:N` means."""
    return int(device.partition(":")[2] or 0)
