"""Batches in flight on a GPU, for engines whose runtime computes from and to addresses.

    caller's tiles ── upload ──> buffers ── launch ──> buffers ── download ──> caller's memory

A tile and its answer are copied once each. `engines.tensorrt_engine` and `engines.onnx_engine`
supply the launches.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import FLAGS, Bundle
from engines.cuda import Cuda
from engines.protocol import Tile

LANES = 2
"""Batches in flight: one is copied while the other is computed."""


class Lane:
    """One batch in flight: a stream, buffers for the largest batch, a launch for each batch size.

    Attributes:
        stream: Handle of the stream.
        buffers: Addresses on the GPU of `lr`, `sr` and `flags`, tile after tile.
    """

    def __init__(self, cuda: Cuda, bundle: Bundle) -> None:
        """Allocate for the bundle's largest batch; `prepare` makes it ready."""
        (height, width), scale = bundle.manifest.tile, bundle.manifest.scale
        largest = bundle.manifest.max_batch_size
        self._bytes = {
            "lr": height * width,
            "sr": scale**2 * height * width,
            "flags": 4 * len(FLAGS),
        }
        self._cuda = cuda
        self.stream = cuda.stream()
        self.buffers = {name: cuda.device_buffer(largest * n) for name, n in self._bytes.items()}
        self._flags = cuda.pinned((largest, len(FLAGS)), np.float32)
        self._launches: dict[int, Callable[[], None]] = {}
        # A batch that is filled up computes what the rest of the buffer holds.
        cuda.clear(self.buffers["lr"], largest * self._bytes["lr"], self.stream)
        cuda.synchronize(self.stream)

    def prepare(self, launches: Mapping[int, Callable[[], None]]) -> None:
        """Set the function that computes each batch size, from and to the buffers.

        It starts after the work on the stream so far, and later work on it waits for it.
        """
        self._launches = dict(sorted(launches.items()))

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Run tiles of the bundle's shape; see `Engine.run`.

        Tiles beyond the largest batch follow in further batches.
        """
        self._cuda.use()
        largest = max(self._launches)
        try:
            parts = [
                self._run_batch(lr[start : start + largest], sr[start : start + largest])
                for start in range(0, len(lr), largest)
            ]
        except BaseException:
            # Copies that have begun must not write into memory that its owner uses again.
            self._cuda.synchronize(self.stream)
            raise
        return np.concatenate(parts)

    def _run_batch(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        cuda, stream, buffers, size = self._cuda, self.stream, self.buffers, self._bytes
        launch = next(launch for count, launch in self._launches.items() if count >= len(lr))
        for place, tile in enumerate(lr):
            cuda.upload(buffers["lr"] + place * size["lr"], tile, stream)
        launch()
        for place, answer in enumerate(sr):
            cuda.download(answer, buffers["sr"] + place * size["sr"], stream)
        flags = self._flags[: len(lr)]
        cuda.download(flags, buffers["flags"], stream)
        cuda.synchronize(stream)
        # The next batch of this lane overwrites it.
        return flags.copy()
