"""Fakes that several tests share: engines that record, block, fail, or lie."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Precision
from engines.batches import EngineOutput
from engines.identity_engine import IdentityEngine
from engines.protocol import Tile, batch_buckets
from service.batching.costs import BatchCosts
from service.ground.priority import Priority


class FakeEngine:
    """Nearest-neighbour x`scale` that records its batches and can be held at a gate.

    Attributes:
        batches: Shapes (N, H, W) of the batches run so far.
        gate: While cleared, `run` waits for it, or for a permit of its own; set at first.
        permits: Each lets one batch pass the closed gate.
        started: Released once for every batch that has reached the gate.
        failures: Errors to raise, one for each of the next batches (None runs).
        spoil: Alters the outputs before they are returned.
        registered: Memory that was registered.
        written: Addresses that answers were written to.
    """

    name = "fake"
    precision: Precision = "fp32"

    def __init__(self, *, scale: int = 4, slots: int = 1) -> None:
        self.slots = slots
        self.scale = scale
        self.registered: list[npt.NDArray[np.uint8]] = []
        self.written: list[int] = []
        self.batches: list[tuple[int, int, int]] = []
        self.first_pixels: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.permits = threading.Semaphore(0)
        self.started = threading.Semaphore(0)
        self.failures: list[BaseException | None] = []
        self.spoil: Callable[[EngineOutput], EngineOutput] | None = None
        self.closed = False
        self._identity = IdentityEngine(scale=scale)

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Record the batch, wait at the gate, then enlarge."""
        self.batches.append((len(lr), *lr[0].shape))
        self.first_pixels.append([int(tile[0, 0]) for tile in lr])
        self.written.extend(answer.ctypes.data for answer in sr)
        self.started.release()
        if not self.gate.is_set():
            assert self.permits.acquire(timeout=30), "the test never opened the gate"
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        flags = self._identity.run(lr, sr)
        if self.spoil is None:
            return flags
        output = self.spoil(EngineOutput(np.stack(sr)[:, None], flags))
        for answer, tile in zip(output.sr, sr, strict=True):
            tile[...] = answer[0]
        return output.flags

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Record it."""
        self.registered.append(memory)

    def open_gate(self) -> None:
        """Let the batch that waits, and every later one, pass."""
        self.gate.set()
        self.permits.release(100)

    def close(self) -> None:
        """Record it."""
        self.closed = True


class FixedCosts(BatchCosts):
    """A millisecond a batch whatever its size, and nothing is learned: large batches are best."""

    def __init__(self, max_batch_size: int) -> None:
        super().__init__(dict.fromkeys(batch_buckets(max_batch_size), 1e-3))

    def observe(self, count: int, seconds: float) -> None:
        """Learn nothing."""


class RecordingObserver:
    """A batch observer that keeps everything that it is told."""

    def __init__(self) -> None:
        self.finished: list[tuple[int, bool]] = []
        self.cancelled = 0
        self.missed = 0
        self.errors: list[Exception] = []
        self.loop_failure: BaseException | None = None

    def batch_finished(
        self, *, waits: Sequence[tuple[Priority, float]], infer_s: float, failed: bool
    ) -> None:
        """Keep size and outcome."""
        assert infer_s >= 0
        self.finished.append((len(waits), failed))

    def tiles_cancelled(self, count: int) -> None:
        """Count."""
        self.cancelled += count

    def deadlines_missed(self, count: int) -> None:
        """Count."""
        self.missed += count

    def loop_failed(self, error: BaseException) -> None:
        """Keep."""
        self.loop_failure = error

    def batch_error(self, error: Exception) -> None:
        """Keep."""
        self.errors.append(error)
