"""Dynamic batching: tiles from many requests, gathered into batches for one engine.

Knows arrays and futures; neither HTTP nor any runtime. The rules (and who taught them) are in
`docs/adr/0003-batch-rules.md`:

- The queue is bounded; a full one refuses at once and never waits.
- Work-conserving: an idle engine slot takes what is there, even one tile. Tiles gather only while
  every slot is busy; there is no timer. Which tiles: `scheduler`.
- Cancelled and expired tiles leave the queue at once.
- An engine error fails its batch and nothing else. If the loop itself fails, every waiter is told
  and the service is no longer ready.

Each engine slot is one thread that takes its next batch itself, under a lock, the moment that it is
done with the last: no trip through the event loop lies between two batches. Futures belong to the
event loop and are only settled there.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import FLAGS
from engines.protocol import Engine, EngineOutput
from service.batching.costs import BatchCosts
from service.batching.scheduler import Batch, Entry, Scheduler
from service.batching.tile_runner import Tile, TileResult
from service.ground.errors import DeadlineExceeded, EngineFailed, NotReady, QueueFull
from service.ground.priority import Priority


class BatchObserver(Protocol):
    """What the batcher reports; called on the event loop."""

    def batch_finished(
        self, *, waits: Sequence[tuple[Priority, float]], infer_s: float, failed: bool
    ) -> None:
        """One batch left the engine; `waits` has the class and the seconds of each of its tiles."""
        ...

    def tiles_cancelled(self, count: int) -> None:
        """Tiles left the queue because nobody waits for them any more."""
        ...

    def deadlines_missed(self, count: int) -> None:
        """Tiles left the queue because their deadline had passed."""
        ...

    def batch_error(self, error: Exception) -> None:
        """An engine call failed; the details are for the log."""
        ...

    def loop_failed(self, error: BaseException) -> None:
        """The loop itself has ended; every waiter has been told."""
        ...


@dataclass(slots=True, eq=False)
class _Item:
    tile: Tile
    future: asyncio.Future[TileResult]
    submitted_s: float
    output: Tile | None = None
    entry: Entry["_Item"] | None = None
    expiry: asyncio.TimerHandle | None = None


class Batcher:
    """Gathers tiles into batches and runs them on the engine's slots.

    Create and use it on one event loop. `submit` and `close` are called there.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        costs: BatchCosts,
        max_queue: int,
        online_budget_s: float,
        observer: BatchObserver,
    ) -> None:
        """Prepare the batcher; `start` begins to work.

        Args:
            engine: The loaded, warmed engine.
            costs: Of the engine's batches; the largest bucket is the most tiles in one.
            max_queue: Most tiles that wait; those under way in the engine do not count.
            online_budget_s: When an online tile without a deadline is due.
            observer: Told of every batch, for metrics and logs.
        """
        self._engine = engine
        self._observer = observer
        self._scheduler: Scheduler[_Item] = Scheduler(
            costs, slots=engine.slots, max_waiting=max_queue, online_budget_s=online_budget_s
        )
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._closing = False
        self._failure: BaseException | None = None
        self._suspended: str | None = None
        # Items by the time at which their batch began, to see an engine that hangs.
        self._in_flight_items: dict[_Item, float] = {}
        self._items: dict[asyncio.Future[TileResult], _Item] = {}
        self._threads: list[threading.Thread] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._outstanding = 0

    def start(self) -> None:
        """Start one thread per engine slot; call on the event loop."""
        self._loop = asyncio.get_running_loop()
        for slot in range(self._engine.slots):
            thread = threading.Thread(target=self._work_slot, name=f"engine-{slot}", daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def depth(self) -> int:
        """Tiles that wait."""
        return self._scheduler.num_waiting

    def depth_of(self, priority: Priority) -> int:
        """Tiles of a class that wait."""
        return self._scheduler.waiting(priority)

    @property
    def in_flight(self) -> int:
        """Tiles that an engine slot works on, or whose results are on their way back."""
        return len(self._in_flight_items)

    def oldest_batch_s(self) -> float:
        """How long the engine has worked on the batch that it began first; 0 when idle."""
        with self._lock:
            started_s = min(self._in_flight_items.values(), default=None)
        return 0.0 if started_s is None else time.monotonic() - started_s

    @property
    def unavailable(self) -> str | None:
        """Why no tile can be run now; None if it can."""
        return self._ended or self._suspended

    @property
    def _ended(self) -> str | None:
        """Why no tile can ever be run again."""
        if self._failure is not None:
            return "the engine loop has failed; the service must be restarted"
        return "the service is shutting down" if self._closing else None

    def suspend(self, reason: str | None) -> None:
        """Refuse tiles, and those that wait, for a reason; None takes them again.

        Only those that are submitted as admitted before are run meanwhile.
        """
        self._suspended = reason
        if reason is not None:
            with self._lock:
                waiting = [entry.payload for entry in self._scheduler.take_all()]
            self._fail(waiting, NotReady(reason, retry_after_s=1.0))

    def expected_wait_s(self, priority: Priority = Priority.ONLINE) -> float:
        """Estimate in how many seconds what waits or is under way now will be done."""
        with self._lock:
            return self._scheduler.drain_s(priority, time.monotonic())

    def check(
        self, count: int, *, deadline_s: float | None = None, priority: Priority = Priority.ONLINE
    ) -> None:
        """Refuse tiles that would not be admitted now.

        Raises:
            QueueFull: They do not all fit into the queue now, or would be done too late.
            NotReady: The batcher is closing, or its loop has failed.
        """
        if self.unavailable is not None:
            raise NotReady(self.unavailable)
        with self._lock:
            refusal = self._scheduler.refusal(
                count, priority, deadline_s=deadline_s, now_s=time.monotonic()
            )
        if refusal is not None:
            raise QueueFull(refusal.reason, retry_after_s=refusal.retry_after_s)

    def submit(
        self,
        tiles: Sequence[Tile],
        *,
        deadline_s: float | None = None,
        priority: Priority = Priority.ONLINE,
        outputs: Sequence[Tile] | None = None,
        is_admitted: bool = False,
    ) -> list[asyncio.Future[TileResult]]:
        """Queue the tiles of one request, all or none.

        Args:
            tiles: Arrays (H, W) uint8 of one shape; they must not change until their futures are
                done.
            deadline_s: `time.monotonic()` after which nobody wants them.
            priority: Their class.
            outputs: Arrays (scale*H, scale*W) uint8 that the answers are written to, one per tile;
                without them answers are views into the batch's own output.
            is_admitted: They were admitted before and are queued whatever waits.

        Returns:
            One future per tile, in order. Cancelling one takes its tile out of the queue.

        Raises:
            QueueFull: They do not all fit into the queue now, or would be done too late.
            NotReady: The batcher is closing, or its loop has failed.
        """
        if not is_admitted:
            self.check(len(tiles), deadline_s=deadline_s, priority=priority)
        elif self._ended is not None:
            raise NotReady(self._ended)
        now_s = time.monotonic()
        places = [None] * len(tiles) if outputs is None else outputs
        items = [
            _Item(tile, self._loop.create_future(), now_s, output)
            for tile, output in zip(tiles, places, strict=True)
        ]
        for item in items:
            self._items[item.future] = item
            item.future.add_done_callback(lambda future, item=item: self._forget(item, future))
            if deadline_s is not None:
                item.expiry = self._loop.call_later(deadline_s - now_s, self._expire, item)
        self._outstanding += len(items)
        self._idle.clear()
        with self._lock:
            entries = self._scheduler.add(
                items,
                shape=(tiles[0].shape[0], tiles[0].shape[1]),
                priority=priority,
                deadline_s=deadline_s,
                now_s=now_s,
            )
            for item, entry in zip(items, entries, strict=True):
                item.entry = entry
            self._work.notify(min(len(items), len(self._threads)))
        return [item.future for item in items]

    def withdraw(self, future: asyncio.Future[TileResult]) -> bool:
        """Cancel a tile that still waits.

        Returns:
            False if it does not: its batch is under way and still uses its memory, or it is done.
        """
        item = self._items.get(future)
        with self._lock:
            if item is None or item.entry is None or not self._scheduler.discard(item.entry):
                return False
        future.cancel()
        self._observer.tiles_cancelled(1)
        return True

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every submitted tile is settled.

        Returns:
            False if the time ran out before.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Refuse new tiles, fail those that still wait, and let the threads end."""
        with self._lock:
            self._closing = True
            abandoned = [entry.payload for entry in self._scheduler.take_all()]
            self._work.notify_all()
        self._fail(abandoned, NotReady("the service is shutting down"))

    async def join(self, timeout_s: float) -> bool:
        """Wait for the threads to end after `close`.

        Returns:
            False if a thread is still in an engine call when the time runs out.
        """
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            await asyncio.to_thread(thread.join, max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    # --- on the engine threads ---

    def _work_slot(self) -> None:
        try:
            while (batch := self._take_batch()) is not None:
                self._run_batch(batch)
        except BaseException as error:
            self._call_on_loop(self._loop_failed, error)

    def _take_batch(self) -> Batch[_Item] | None:
        """Wait for work and take the next batch; None when closing."""
        with self._lock:
            while not self._closing:
                batch = self._scheduler.next_batch(time.monotonic())
                if batch is not None:
                    items = [entry.payload for entry in batch.entries]
                    self._in_flight_items.update(dict.fromkeys(items, batch.started_s))
                    return batch
                self._work.wait()
            return None

    def _run_batch(self, formed: Batch[_Item]) -> None:
        batch = [entry.payload for entry in formed.entries]
        started_s = time.monotonic()
        outputs: EngineOutput | None = None
        error: Exception | None = None
        try:
            lr = _stack([item.tile for item in batch])
            outputs = self._engine.run(lr)
            _check_outputs(outputs, batch)
            for item, sr in zip(batch, outputs.sr, strict=True):
                if item.output is not None:
                    np.copyto(item.output, sr[0])
        except Exception as caught:
            error = caught
        ended_s = time.monotonic()
        with self._lock:
            self._scheduler.finished(formed, ended_s, failed=error is not None)
            # A slot that was kept free of nightly tiles may be allowed one now.
            self._work.notify()
        self._call_on_loop(self._settle, formed, outputs, error, started_s, ended_s - started_s)

    def _call_on_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # The event loop is closed: nobody is left to be told.
            return

    # --- on the event loop ---

    def _settle(
        self,
        formed: Batch[_Item],
        outputs: EngineOutput | None,
        error: Exception | None,
        started_s: float,
        infer_s: float,
    ) -> None:
        batch = [entry.payload for entry in formed.entries]
        with self._lock:
            for item in batch:
                self._in_flight_items.pop(item, None)
        size = len(batch)
        queue_s = [started_s - item.submitted_s for item in batch]
        # Futures first: a report that cannot be written must not keep anybody waiting.
        if error is not None or outputs is None:
            failure = EngineFailed("the engine failed on the batch that held this tile")
            failure.__cause__ = error
            self._fail(batch, failure)
        else:
            for item, sr, flags, waited_s in zip(batch, *outputs, queue_s, strict=True):
                if not item.future.done():
                    answer = sr[0] if item.output is None else item.output
                    item.future.set_result(TileResult(answer, flags, waited_s, infer_s, size))
        if error is not None:
            self._observer.batch_error(error)
        classes = [entry.priority for entry in formed.entries]
        self._observer.batch_finished(
            waits=list(zip(classes, queue_s, strict=True)),
            infer_s=infer_s,
            failed=error is not None,
        )

    def _expire(self, item: _Item) -> None:
        """Runs at a tile's deadline; one that the engine already works on is left to it."""
        with self._lock:
            if item.future.done() or item in self._in_flight_items:
                return
            if item.entry is not None:
                self._scheduler.discard(item.entry)
        self._fail([item], DeadlineExceeded("the deadline passed while the tile waited"))
        self._observer.deadlines_missed(1)

    def _fail(self, items: Sequence[_Item], error: Exception) -> None:
        for item in items:
            if not item.future.done():
                item.future.set_exception(error)

    def _forget(self, item: _Item, future: asyncio.Future[TileResult]) -> None:
        """Runs when a tile's future is done, however that came about."""
        self._items.pop(future, None)
        if item.expiry is not None:
            item.expiry.cancel()
        self._outstanding -= 1
        if not self._outstanding:
            self._idle.set()
        # The two know each other; together they would keep the picture until the collector comes.
        entry, item.entry = item.entry, None
        if future.cancelled():
            with self._lock:
                if entry is None or not self._scheduler.discard(entry):
                    return  # its batch is under way: the result is dropped when it comes
            self._observer.tiles_cancelled(1)

    def _loop_failed(self, error: BaseException) -> None:
        self._failure = error
        with self._lock:
            waiting = [entry.payload for entry in self._scheduler.take_all()]
            abandoned = [*waiting, *self._in_flight_items]
            self._closing = True
            self._work.notify_all()
        self._fail(abandoned, EngineFailed("the engine loop has failed"))
        self._observer.loop_failed(error)


def _check_outputs(outputs: EngineOutput, batch: list[_Item]) -> None:
    height, width = batch[0].tile.shape
    sr, flags = outputs
    expected = f"uint8 ({len(batch)}, 1, s*{height}, s*{width})"
    fits = sr.ndim == 4 and sr.dtype == np.uint8 and sr.shape[:2] == (len(batch), 1)
    if not fits or sr.shape[2] % height or sr.shape[3] % width:
        raise ValueError(f"the engine gave {sr.dtype} {sr.shape}; expected {expected}")
    if flags.shape != (len(batch), len(FLAGS)):
        raise ValueError(
            f"the engine gave flags {flags.shape}; expected ({len(batch)}, {len(FLAGS)})"
        )


def _stack(tiles: list[Tile]) -> npt.NDArray[np.uint8]:
    """Make (N, 1, H, W) from N tiles; a single contiguous tile is not copied."""
    if len(tiles) == 1:
        return np.ascontiguousarray(tiles[0])[None, None]
    return np.stack(tiles)[:, None]
