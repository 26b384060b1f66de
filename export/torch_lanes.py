"""Batches in flight on a GPU, of the engine `torch`: copies, batch sizes and CUDA graphs.

    caller's tiles ── upload ──> bucket.lr ── network ──> answers ── download ──> caller's memory

A tile and its answer are copied once each, without a staging buffer on the host. The
calls that need a GPU are behind `Stream`: `export.torch_cuda` implements it, and the tests run the
same lanes on the CPU with a stream that counts.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from bundle_format.bundle import FLAGS, Bundle
from engines.protocol import Tile, batch_buckets

WARM_UP_RUNS = 3
"""Runs of a batch size before its CUDA graph is recorded: they choose the convolutions' algorithms
and allocate memory."""

Outputs = tuple[torch.Tensor, torch.Tensor]
"""Answers (N, 1, scale*H, scale*W) uint8 and flags (N, K) float32."""

Network = Callable[[torch.Tensor], Outputs]
"""Network from (N, 1, H, W) uint8 to answers and flags."""


class Stream(Protocol):
    """Work that a device does in order, next to that of other streams.

    Attributes:
        device: Device of the tensors.
    """

    device: torch.device

    def use(self) -> AbstractContextManager[None]:
        """Let the work of a block run on this stream."""
        ...

    def staging(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a float32 tensor on the host, to which the device copies by itself."""
        ...

    def upload(self, target: torch.Tensor, tile: Tile) -> None:
        """Start to copy a tile (H, W) uint8 to the device."""
        ...

    def download(self, tile: Tile, source: torch.Tensor) -> None:
        """Start to copy an answer from the device to where its caller wants it."""
        ...

    def synchronize(self) -> None:
        """Wait until everything is done."""
        ...

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        """Record the work; returns its outputs and a function that does it again."""
        ...


class Lane:
    """One batch in flight: a stream, and an input and a CUDA graph for each batch size.

    A batch is filled up to the next batch size. Other tile shapes and larger batches run without a
    graph.
    """

    def __init__(
        self, network: Network, stream: Stream, bundle: Bundle, *, free_network: Network
    ) -> None:
        """Prepare every batch size; the call takes seconds.

        Args:
            network: Network for the prepared batch sizes, on the stream's device.
            stream: Stream that no other lane uses.
            bundle: Bundle with the tile's shape and the largest batch.
            free_network: The same network for every other shape.
        """
        self._tile = height, width = bundle.manifest.tile
        largest = bundle.manifest.max_batch_size
        self._stream = stream
        self._free_network = free_network
        self._flags = stream.staging((largest, len(FLAGS)))
        self._buckets = [
            _Bucket(
                network,
                stream,
                torch.zeros((size, 1, height, width), dtype=torch.uint8, device=stream.device),
            )
            for size in batch_buckets(largest)
        ]

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Run one batch; see `engines.protocol.Engine.run`."""
        try:
            return self._run(lr, sr)
        except BaseException:
            # Copies that have begun must not write into memory that its owner uses again.
            self._stream.synchronize()
            raise

    def _run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        count, stream = len(lr), self._stream
        bucket = next((bucket for bucket in self._buckets if bucket.size >= count), None)
        if bucket is None or lr[0].shape != self._tile:
            return self._run_freely(lr, sr)
        with stream.use():
            self._upload(bucket.lr, lr)
            answers, flags = bucket.compute()
            self._download(answers, sr)
            self._flags[:count].copy_(flags[:count], non_blocking=True)
            stream.synchronize()
        # The next batch of this lane overwrites it.
        return self._flags[:count].numpy().copy()

    def _run_freely(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        stream = self._stream
        with stream.use():
            tiles = torch.empty((len(lr), 1, *lr[0].shape), dtype=torch.uint8, device=stream.device)
            self._upload(tiles, lr)
            answers, flags = self._free_network(tiles)
            self._download(answers, sr)
            stream.synchronize()
            return flags.cpu().numpy()

    def _upload(self, tiles: torch.Tensor, lr: Sequence[Tile]) -> None:
        for place, tile in enumerate(lr):
            self._stream.upload(tiles[place, 0], tile)

    def _download(self, answers: torch.Tensor, sr: Sequence[Tile]) -> None:
        for place, tile in enumerate(sr):
            self._stream.download(tile, answers[place, 0])


class _Bucket:
    """One batch size of a lane: its input on the device, and the CUDA graph of the network.

    Attributes:
        size: Number of tiles.
        lr: Input (size, 1, H, W) uint8.
    """

    def __init__(self, network: Network, stream: Stream, lr: torch.Tensor) -> None:
        self.size = len(lr)
        self.lr = lr
        with stream.use():
            for _ in range(WARM_UP_RUNS):
                network(lr)
            stream.synchronize()
        self._outputs, self._replay = stream.capture(lambda: network(lr))

    def compute(self) -> Outputs:
        """Start to compute the answers to `lr`."""
        self._replay()
        return self._outputs
