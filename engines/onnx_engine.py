"""ONNX Runtime, on the CPU or on an NVIDIA GPU."""

# The runtime ships no complete type information.
# pyright: reportUnknownMemberType=false

import logging
from collections.abc import Sequence
from functools import partial
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import FLAGS, Bundle, Precision
from engines.batches import answer_array, gather, scatter
from engines.cuda import Cuda, device_index
from engines.gpu_lanes import Lane
from engines.onnx_lanes import SessionMaker, proven_lanes
from engines.onnx_sessions import make_session
from engines.protocol import EngineError, EngineOptions, Tile

ORT_GPU = "cuda"
"""Kind of device of a buffer on a GPU, as ONNX Runtime names it."""

_log = logging.getLogger(__name__)


class OnnxEngine:
    """Runs a bundle's ONNX graph through ONNX Runtime's CPU or CUDA provider.

    On a GPU, tiles of the bundle's shape take the lanes of `engines.onnx_lanes`, if `cuda-bindings`
    is installed and the lanes reproduce the golden tile. ONNX Runtime copies all other tiles.

    Raises:
        EngineError: ONNX Runtime refuses the graph, or it does not have the expected signature, or
            it cannot use the requested GPU.
        bundle_format.bundle.BundleError: The bundle has no graph of the requested precision.
    """

    name = "onnx"

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        self.precision: Precision = options.precision
        self.scale = bundle.manifest.scale
        self._tile = bundle.manifest.tile
        make = partial(make_session, bundle.graph(options.precision), bundle, options)
        self._session = make()
        self._cuda: Cuda | None = None
        self._lanes: SimpleQueue[Lane] = SimpleQueue()
        self.slots = 1
        if options.device != "cpu":
            self._add_lanes(bundle, options.device, make)

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Run the graph from and to the caller's memory; see `Engine.run`."""
        if self.slots > 1 and lr[0].shape == self._tile:
            lane = self._lanes.get()
            try:
                return lane.run(lr, sr)
            finally:
                self._lanes.put(lane)
        answers = answer_array(sr)
        flags = np.empty((len(sr), len(FLAGS)), dtype=np.float32)
        binding = self._session.io_binding()
        binding.bind_cpu_input("lr", gather(lr))
        for name, array in (("sr", answers), ("flags", flags)):
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._session.run_with_iobinding(binding)
        scatter(answers, sr)
        return flags

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Page-lock the memory on a GPU; see `Engine.register`."""
        if self._cuda is not None:
            self._cuda.use()
            self._cuda.register(memory)

    def close(self) -> None:
        """Free the lanes' memory; the session is freed with the object."""
        while not self._lanes.empty():
            self._lanes.get()
        if self._cuda is not None:
            self._cuda.close()

    def _add_lanes(self, bundle: Bundle, device: str, make: SessionMaker) -> None:
        """Prepare lanes; without them ONNX Runtime copies, which is slower, and the log warns."""
        try:
            self._cuda = Cuda(device, engine=self.name)
        except EngineError as error:
            _log.warning("engine 'onnx' on %s leaves copies to ONNX Runtime: %s", device, error)
            return
        where = (ORT_GPU, device_index(device))
        for lane in proven_lanes(bundle, self.precision, self._cuda, make, device=where):
            self._lanes.put(lane)
            self.slots = self._lanes.qsize()
