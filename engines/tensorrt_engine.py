"""Native TensorRT: plans from the cache, two batches in flight."""

# TensorRT ships no type information.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import FLAGS, Bundle, Precision
from engines.cuda import Cuda
from engines.protocol import EngineError, EngineOptions, Tile
from engines.tensorrt_plans import import_tensorrt, plan_keys, read_plan

LANES = 2
"""Batches in flight: one is copied while the other is computed."""

AB_RUNS = 10


class TensorrtEngine:
    """Runs a bundle's TensorRT plans; only tiles of the bundle's own shape.

    Raises:
        EngineError: TensorRT, the GPU or a plan are missing, or the plan does not fit.
        bundle_format.bundle.BundleError: The bundle has no graph of the requested precision.
    """

    name = "tensorrt"

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        trt = import_tensorrt()
        self.precision: Precision = options.precision
        self.slots = LANES
        self.scale = bundle.manifest.scale
        self._tile = bundle.manifest.tile
        self._cuda = Cuda(options.device)
        capability = self._cuda.compute_capability()
        keys = plan_keys(bundle, options.precision, trt=trt, compute_capability=capability)
        runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        engines: dict[int, Any] = {}
        for key in keys:
            engine = runtime.deserialize_cuda_engine(read_plan(Path(options.plan_cache), key))
            if engine is None:
                raise EngineError(
                    f"{key.module} {key.module_version} refuses the plan {key.file_name}; build it "
                    "again on this machine: semsr bundle build-plans BUNDLE"
                )
            engines[key.batch] = engine
        # What the contexts run belongs to the runtime, which must outlive them.
        self._runtime = runtime
        self._largest = max(engines)
        self._lanes: SimpleQueue[_Lane] = SimpleQueue()
        for _ in range(LANES):
            self._lanes.put(_Lane(self._cuda, engines, bundle))

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Run the smallest plan that holds the batch; see `Engine.run`."""
        if lr[0].shape != self._tile:
            raise EngineError(
                f"engine 'tensorrt' has plans for tiles of {self._tile[0]}x{self._tile[1]}, "
                f"got {lr[0].shape[0]}x{lr[0].shape[1]}"
            )
        largest = self._largest
        lane = self._lanes.get()
        try:
            self._cuda.use()
            parts = [
                lane.run(lr[start : start + largest], sr[start : start + largest])
                for start in range(0, len(lr), largest)
            ]
        finally:
            self._lanes.put(lane)
        return np.concatenate(parts)

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Page-lock the memory; see `Engine.register`."""
        self._cuda.use()
        self._cuda.register(memory)

    def close(self) -> None:
        """Free the lanes' memory."""
        while not self._lanes.empty():
            self._lanes.get()
        self._cuda.close()


class _Lane:
    """One batch in flight: a stream, buffers for the largest batch, a function for each size."""

    def __init__(self, cuda: Cuda, engines: dict[int, Any], bundle: Bundle) -> None:
        largest = max(engines)
        (height, width), scale = bundle.manifest.tile, bundle.manifest.scale
        self._bytes = {
            "lr": height * width,
            "sr": scale**2 * height * width,
            "flags": 4 * len(FLAGS),
        }
        self._cuda = cuda
        self._stream = cuda.stream()
        self._device = {name: cuda.device_buffer(largest * n) for name, n in self._bytes.items()}
        self._flags = cuda.pinned((largest, len(FLAGS)), np.float32)
        cuda.clear(self._device["lr"], largest * self._bytes["lr"], self._stream)
        self._buckets = {size: self._prepare(engine) for size, engine in sorted(engines.items())}

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        cuda, stream, device, size = self._cuda, self._stream, self._device, self._bytes
        compute = next(run for count, run in self._buckets.items() if count >= len(lr))
        for place, tile in enumerate(lr):
            cuda.upload(device["lr"] + place * size["lr"], tile, stream)
        compute()
        for place, answer in enumerate(sr):
            cuda.download(answer, device["sr"] + place * size["sr"], stream)
        flags = self._flags[: len(lr)]
        cuda.download(flags, device["flags"], stream)
        cuda.synchronize(stream)
        # The next batch of this lane overwrites it.
        return flags.copy()

    def _prepare(self, engine: Any) -> Callable[[], None]:  # noqa: ANN401 - TensorRT is untyped
        """Return the faster function for a batch size: the plain launch or a CUDA graph."""
        context = engine.create_execution_context()
        if context is None:
            raise EngineError(
                "TensorRT cannot make an execution context: is the GPU's memory full?"
            )
        for name, address in self._device.items():
            context.set_tensor_address(name, address)

        def launch() -> None:
            if not context.execute_async_v3(self._stream):
                raise EngineError("TensorRT could not start a batch; its log says why")

        launch()  # allocates what the first run allocates, outside the graph
        self._cuda.synchronize(self._stream)
        replay = self._cuda.capture(launch, self._stream)
        return min((launch, replay), key=self._time_s)

    def _time_s(self, compute: Callable[[], None]) -> float:
        start_s = time.perf_counter()
        for _ in range(AB_RUNS):
            compute()
        self._cuda.synchronize(self._stream)
        return time.perf_counter() - start_s
