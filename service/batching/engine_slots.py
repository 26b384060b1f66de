"""The slots of an engine: threads, each of which takes its next batch under a lock when free.

No trip through the event loop lies between two batches. The threads only run batches; they
report to the event loop, which settles the tiles' futures (`service.batching.batcher`).
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import FLAGS
from engines.protocol import Engine, Tile
from engines.sixteen_bit import Tile16, run_16_bit
from service.batching.answers import AnswerMemory
from service.batching.scheduler import Batch, Entry, Scheduler
from service.batching.tile_runner import TileResult


@dataclass(slots=True, eq=False)
class Item:
    """One tile on its way through the engine.

    Attributes:
        tile: (H, W) uint8.
        future: Future of the answer.
        submitted_s: `time.monotonic()` of its submission.
        output: Array that the answer is written to; None until its batch begins, unless the
            caller has given one.
        bits: Bits of the answer, 8 or 16: its array is uint8 or uint16.
        entry: Entry of the scheduler, until the tile is done.
        expiry: Timer of the deadline, or None.
    """

    tile: Tile
    future: asyncio.Future[TileResult]
    submitted_s: float
    output: Tile | Tile16 | None = None
    bits: int = 8
    entry: Entry["Item"] | None = None
    expiry: asyncio.TimerHandle | None = None


class Outcome(NamedTuple):
    """A batch that has left the engine.

    Attributes:
        batch: The batch.
        flags: (N, K) float32 of the tiles; None if the engine failed.
        error: Error of the engine, or None.
        started_s: `time.monotonic()` of its start.
        infer_s: Duration in seconds.
    """

    batch: Batch[Item]
    flags: npt.NDArray[np.float32] | None
    error: Exception | None
    started_s: float
    infer_s: float

    @property
    def items(self) -> list[Item]:
        """The tiles of the batch."""
        return [entry.payload for entry in self.batch.entries]


class EngineSlots:
    """Runs batches of a scheduler on an engine, one thread for each of its slots.

    Attributes:
        lock: Lock of the scheduler; every user of the scheduler holds it.
    """

    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler[Item],
        answers: AnswerMemory,
        *,
        on_done: Callable[[Outcome], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Prepare; `start` begins to work.

        Args:
            engine: Loaded, warmed engine.
            scheduler: Scheduler that decides which tiles run next.
            answers: Memory for the answers of tiles that bring none.
            on_done: Callback for each batch that has left the engine; runs on the event loop.
            on_failure: Callback for a thread that ends with an error; runs on the event loop.
        """
        self._engine = engine
        self._scheduler = scheduler
        self._answers = answers
        self._on_done = on_done
        self._on_failure = on_failure
        self.lock = threading.RLock()
        self._work = threading.Condition(self.lock)
        self._is_closing = False
        # Tiles by the time at which their batch began, to detect an engine that hangs.
        self._running: dict[Item, float] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads; call on the event loop."""
        self._loop = asyncio.get_running_loop()
        for slot in range(self._engine.slots):
            thread = threading.Thread(target=self._work_slot, name=f"engine-{slot}", daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def in_flight(self) -> int:
        """Tiles that a slot works on, or whose results are on their way back."""
        return len(self._running)

    def oldest_batch_s(self) -> float:
        """Seconds that the engine has worked on the batch that it began first; 0 when idle."""
        with self.lock:
            started_s = min(self._running.values(), default=None)
        return 0.0 if started_s is None else time.monotonic() - started_s

    def holds(self, item: Item) -> bool:
        """Whether a tile is in flight; the caller holds the lock."""
        return item in self._running

    def running(self) -> list[Item]:
        """Return the tiles in flight; the caller holds the lock."""
        return list(self._running)

    def release(self, items: Iterable[Item]) -> None:
        """Remove tiles from the tiles in flight, once their results are on the event loop."""
        with self.lock:
            for item in items:
                self._running.pop(item, None)

    def wake(self, count: int) -> None:
        """Wake slots for `count` new tiles; the caller holds the lock."""
        self._work.notify(min(count, len(self._threads)))

    def close(self) -> None:
        """Stop the threads after their batch; the caller holds the lock."""
        self._is_closing = True
        self._work.notify_all()

    async def join(self, timeout_s: float) -> bool:
        """Wait for the threads to end after `close`.

        Returns:
            False if a thread is still in an engine call when the time runs out.
        """
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            await asyncio.to_thread(thread.join, max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work_slot(self) -> None:
        try:
            while (batch := self._take_batch()) is not None:
                self._call_on_loop(self._on_done, self._run_batch(batch))
        except BaseException as error:
            self._call_on_loop(self._on_failure, error)

    def _take_batch(self) -> Batch[Item] | None:
        """Wait for work and take the next batch; None when closing."""
        with self.lock:
            while not self._is_closing:
                batch = self._scheduler.next_batch(time.monotonic())
                if batch is not None:
                    items = [entry.payload for entry in batch.entries]
                    self._running.update(dict.fromkeys(items, batch.started_s))
                    return batch
                self._work.wait()
            return None

    def _run_batch(self, batch: Batch[Item]) -> Outcome:
        items = [entry.payload for entry in batch.entries]
        started_s = time.monotonic()
        flags: npt.NDArray[np.float32] | None = None
        error: Exception | None = None
        try:
            flags = self._run(items)
            _check_flags(flags, len(items))
        except Exception as caught:
            error = caught
        ended_s = time.monotonic()
        with self.lock:
            self._scheduler.finished(batch, ended_s, failed=error is not None)
            # A slot that was kept free of nightly tiles may be allowed one now.
            self._work.notify()
        return Outcome(batch, flags, error, started_s, ended_s - started_s)

    def _run(self, items: Sequence[Item]) -> npt.NDArray[np.float32]:
        lr = [item.tile for item in items]
        outputs: list[Any] = [self._output(item) for item in items]  # uint8, or uint16 throughout
        if items[0].bits == 16:
            return run_16_bit(self._engine, lr, outputs)
        return self._engine.run(lr, outputs)

    def _output(self, item: Item) -> Tile | Tile16:
        if item.output is None:
            height, width = (self._engine.scale * side for side in item.tile.shape)
            if item.bits == 16:
                item.output = self._answers.lend(height, 2 * width).view(np.uint16)
            else:
                item.output = self._answers.lend(height, width)
        return item.output

    def _call_on_loop(self, callback: Callable[..., None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, argument)
        except RuntimeError:
            return  # the event loop is closed: the process is ending


def _check_flags(flags: npt.NDArray[np.float32], count: int) -> None:
    if flags.shape != (count, len(FLAGS)):
        raise ValueError(
            f"the engine returned flags {flags.shape}; expected ({count}, {len(FLAGS)})"
        )
