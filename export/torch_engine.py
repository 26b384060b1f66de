"""The engine `torch`: the reference itself, on the CPU or on an NVIDIA GPU.

It runs the bundle's checkpoint, not a graph, so that it also serves cards that no other runtime
supports. The service needs torch for this engine alone, and loads it only if it is selected.
"""

from collections.abc import Sequence
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt
import torch

from bundle_format.bundle import Bundle, Precision
from engines.batches import gather
from engines.gpu_lanes import LANES
from engines.protocol import EngineOptions, Tile
from export.to_onnx import GreyLevels
from export.torch_cuda import CudaStream, PageLocks, cuda_device, host_tensor
from export.torch_lanes import Lane, Network
from models import load_generator

MAX_COMPILED = 64
"""Limit of compiled batch sizes, above their number at any largest batch."""

_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


class TorchEngine:
    """Runs a bundle's merged generator with torch.

    In FP16 and BF16 all weights and activations of the network have half the bits; grey levels and
    flags are computed in FP32.

    Raises:
        EngineError: The GPU does not exist.
        models.CheckpointError: The bundle's checkpoint is not a semsr checkpoint.
        bundle_format.bundle.BundleError: The bundle's checkpoint is damaged.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        self.precision: Precision = options.precision
        self.scale = bundle.manifest.scale
        bundle.read("model.safetensors")  # verified; the loader below wants a path
        generator, _ = load_generator(bundle.path / "model.safetensors")
        dtype = _DTYPES[options.precision]
        self._network = GreyLevels(generator, bundle.manifest.trust, dtype=dtype)
        self._lanes: SimpleQueue[Lane] = SimpleQueue()
        self._locks: PageLocks | None = None
        self.slots = 1
        if options.device == "cpu":
            torch.set_num_threads(options.threads)
            return
        device = cuda_device(options.device)
        # TF32 would be another precision than the requested one.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        self._network.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._locks = PageLocks(device)
        self.slots = LANES
        network = _fused(self._network) if options.fuse else self._network
        for _ in range(LANES):
            lane = Lane(network, CudaStream(device), bundle, free_network=self._network)
            self._lanes.put(lane)

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Run the generator; see `Engine.run`."""
        if self._locks is None:
            tiles = gather(lr)
            with torch.inference_mode():
                answers, flags = self._network(host_tensor(tiles))
            for answer, tile in zip(answers, sr, strict=True):
                np.copyto(tile, answer[0].numpy())
            return flags.numpy()
        lane = self._lanes.get()
        try:
            return lane.run(lr, sr)
        finally:
            self._lanes.put(lane)

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Page-lock the memory on a GPU; see `Engine.register`."""
        if self._locks is not None:
            self._locks.lock(memory)

    def close(self) -> None:
        """Release the lanes' memory."""
        while not self._lanes.empty():
            self._lanes.get()
        if self._locks is not None:
            self._locks.close()
            torch.cuda.empty_cache()


def _fused(network: GreyLevels) -> Network:
    """Let `torch.compile` fuse layers; each batch size is compiled at its first run."""
    return torch.compile(  # pyright: ignore[reportCallIssue] - its overloads lack the limit
        network,
        dynamic=False,
        fullgraph=True,  # an error where torch would silently compute unfused
        isolate_recompiles=True,
        recompile_limit=MAX_COMPILED,
    )
