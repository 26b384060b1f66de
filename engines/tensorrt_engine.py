"""Native TensorRT: plans from the cache, two batches in flight."""

# TensorRT ships no type information.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Bundle, Precision
from engines.cuda import Cuda
from engines.gpu_lanes import LANES, Lane
from engines.protocol import EngineError, EngineOptions, Tile
from engines.tensorrt_plans import import_tensorrt, plan_keys, read_plan


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
        self._cuda = Cuda(options.device, engine=self.name)
        capability = self._cuda.compute_capability()
        keys = plan_keys(bundle, options.precision, trt=trt, compute_capability=capability)
        plans = {key: read_plan(Path(options.plan_cache), key) for key in keys}
        runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        engines: dict[int, Any] = {}
        for key, plan in plans.items():
            engine = runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise EngineError(
                    f"{key.module} {key.module_version} refuses the plan {key.file_name}; build it "
                    "again on this machine: semsr bundle build-plans BUNDLE"
                )
            engines[key.batch] = engine
        # What the contexts run belongs to the runtime, which must outlive them.
        self._runtime = runtime
        self._lanes: SimpleQueue[Lane] = SimpleQueue()
        for _ in range(LANES):
            lane = Lane(self._cuda, bundle)
            lane.prepare({size: self._launch(lane, engine) for size, engine in engines.items()})
            self._lanes.put(lane)

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Run the smallest plan that holds the batch; see `Engine.run`."""
        if lr[0].shape != self._tile:
            raise EngineError(
                f"engine 'tensorrt' has plans for tiles of {self._tile[0]}x{self._tile[1]}, "
                f"got {lr[0].shape[0]}x{lr[0].shape[1]}"
            )
        lane = self._lanes.get()
        try:
            return lane.run(lr, sr)
        finally:
            self._lanes.put(lane)

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Page-lock the memory; see `Engine.register`."""
        self._cuda.use()
        self._cuda.register(memory)

    def close(self) -> None:
        """Free the lanes' memory."""
        while not self._lanes.empty():
            self._lanes.get()
        self._cuda.close()

    def _launch(self, lane: Lane, engine: Any) -> Callable[[], None]:  # noqa: ANN401 - TensorRT is untyped
        """Return the CUDA graph of a plan that computes from and to a lane's buffers."""
        context = engine.create_execution_context()
        if context is None:
            raise EngineError(
                "TensorRT cannot make an execution context: is the GPU's memory full?"
            )
        for name, address in lane.buffers.items():
            context.set_tensor_address(name, address)

        def enqueue() -> None:
            if not context.execute_async_v3(lane.stream):
                raise EngineError("TensorRT could not start a batch; its log says why")

        enqueue()  # allocates what the first run allocates, outside the graph
        self._cuda.synchronize(lane.stream)
        return self._cuda.capture(enqueue, lane.stream)
