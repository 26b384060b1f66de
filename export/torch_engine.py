"""The engine `torch`: the reference itself, on the CPU or on an NVIDIA GPU.

It runs the bundle's checkpoint, not a graph, so that it also serves cards that no other runtime
supports. The service needs torch for this engine alone, and loads it only if it is named.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bundle_format.bundle import FLAGS, Bundle, Precision
from engines.batches import gather
from engines.protocol import EngineError, EngineOptions, Tile, batch_buckets
from export.to_onnx import GreyLevels
from models import load_generator

LANES = 2
"""Batches in flight on a GPU: one is copied while the other is computed."""

AB_RUNS = 10
_PORTABLE = 1  # cudaHostRegisterPortable
_DTYPES: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


class TorchEngine:
    """Runs a bundle's merged generator with torch.

    FP16 and BF16 run by autocast: convolutions in half the bits, everything else in FP32.

    Raises:
        EngineError: The GPU does not exist.
        models.CheckpointError: The bundle's checkpoint is not a semsr checkpoint.
        bundle_format.bundle.BundleError: The bundle's checkpoint is damaged.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        self.precision: Precision = options.precision
        self.scale = bundle.manifest.scale
        # By address; kept, because memory must not be freed while it is locked.
        self._registered: dict[int, npt.NDArray[np.uint8]] = {}
        bundle.read("model.safetensors")  # verified; the loader below wants a path
        generator, _ = load_generator(bundle.path / "model.safetensors")
        network = GreyLevels(generator, bundle.manifest.trust)
        self._dtype = _DTYPES.get(options.precision)
        if options.device == "cpu":
            torch.set_num_threads(options.threads)
            self.slots = 1
            self._network = network
            self._lanes: SimpleQueue[_Lane] | None = None
            return
        device = _cuda_device(options.device)
        # TF32 would be another precision than the requested one.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        network.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._network = network
        self.slots = LANES
        self._lanes = SimpleQueue()
        for _ in range(LANES):
            self._lanes.put(_Lane(self._network, bundle, device=device, dtype=self._dtype))

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Run the generator; see `Engine.run`."""
        if self._lanes is None:
            with torch.inference_mode(), _autocast("cpu", self._dtype):
                answers, flags = self._network(torch.from_numpy(gather(lr)))
            for answer, tile in zip(answers, sr, strict=True):
                np.copyto(tile, answer[0].numpy())
            return flags.float().numpy()
        lane = self._lanes.get()
        try:
            return lane.run(lr, sr)
        finally:
            self._lanes.put(lane)

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Page-lock the memory on a GPU; see `Engine.register`."""
        if self._lanes is None:
            return
        address = memory.ctypes.data
        cudart: Any = torch.cuda.cudart()
        torch.cuda.check_error(int(cudart.cudaHostRegister(address, memory.nbytes, _PORTABLE)))
        self._registered[address] = memory

    def close(self) -> None:
        """Release the lanes' memory."""
        if self._lanes is not None:
            while not self._lanes.empty():
                self._lanes.get()
            cudart: Any = torch.cuda.cudart()
            while self._registered:
                address, _ = self._registered.popitem()
                torch.cuda.check_error(int(cudart.cudaHostUnregister(address)))
            torch.cuda.empty_cache()


class _Lane:
    """One batch in flight on a GPU: a stream, pinned buffers, and a CUDA graph for each bucket.

    A batch is filled up to the next bucket. Other tile sizes and larger batches run without a
    graph.
    """

    def __init__(
        self,
        network: GreyLevels,
        bundle: Bundle,
        *,
        device: torch.device,
        dtype: torch.dtype | None,
    ) -> None:
        manifest = bundle.manifest
        height, width = manifest.tile
        largest = manifest.max_batch_size
        self._network, self._device, self._dtype = network, device, dtype
        self.stream = torch.cuda.Stream(device)
        self._tile = manifest.tile
        self._flags = torch.empty((largest, len(FLAGS))).pin_memory()
        self._buckets = [
            _Bucket(self, torch.zeros((size, 1, height, width), dtype=torch.uint8, device=device))
            for size in batch_buckets(largest)
        ]

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        count = len(lr)
        fitting = [bucket for bucket in self._buckets if bucket.size >= count]
        if lr[0].shape != self._tile or not fitting:
            return self._run_freely(lr, sr)
        bucket = fitting[0]
        with torch.inference_mode(), torch.cuda.stream(self.stream):
            for place, tile in enumerate(lr):
                bucket.lr[place, 0].copy_(torch.from_numpy(tile), non_blocking=True)
            answers, flags = bucket.compute()
            self._download(answers, sr)
            self._flags[:count].copy_(flags[:count], non_blocking=True)
            self.stream.synchronize()
        # The next batch of this lane overwrites it.
        return self._flags[:count].numpy().copy()

    def compute(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with _autocast("cuda", self._dtype):
            sr, flags = self._network(lr)
        return sr, flags.float()

    def _run_freely(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        with torch.inference_mode(), torch.cuda.stream(self.stream):
            answers, flags = self.compute(torch.from_numpy(gather(lr)).to(self._device))
            self._download(answers, sr)
            self.stream.synchronize()
            return flags.cpu().numpy()

    def _download(self, answers: torch.Tensor, sr: Sequence[Tile]) -> None:
        """Start to copy each answer to where its caller wants it."""
        for answer, tile in zip(answers, sr, strict=False):
            torch.from_numpy(tile).copy_(answer[0], non_blocking=True)


class _Bucket:
    """One batch size of a lane: its input on the card, and a CUDA graph where that is faster."""

    def __init__(self, lane: _Lane, lr: torch.Tensor) -> None:
        self.size = len(lr)
        self.lr = lr
        self._lane = lane
        self._graph: torch.cuda.CUDAGraph | None = None
        with torch.inference_mode(), torch.cuda.stream(lane.stream):
            for _ in range(3):  # picks the convolutions' algorithms, outside the graph
                self._outputs = lane.compute(self.lr)
            lane.stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, stream=lane.stream):
            outputs = lane.compute(self.lr)
        plain_s = self._time_s()
        self._graph, kept = graph, self._outputs
        self._outputs = outputs
        if self._time_s() >= plain_s:
            self._graph, self._outputs = None, kept

    def compute(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self._graph is None:
            return self._lane.compute(self.lr)
        self._graph.replay()
        return self._outputs

    def _time_s(self) -> float:
        with torch.inference_mode(), torch.cuda.stream(self._lane.stream):
            self._lane.stream.synchronize()
            start_s = time.perf_counter()
            for _ in range(AB_RUNS):
                self.compute()
            self._lane.stream.synchronize()
        return time.perf_counter() - start_s


def _autocast(kind: str, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    return torch.autocast(kind, dtype=dtype, enabled=dtype is not None, cache_enabled=False)


def _cuda_device(name: str) -> torch.device:
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
