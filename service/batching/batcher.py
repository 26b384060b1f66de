"""Dynamic batching: tiles from many requests, gathered into batches for one engine.

Knows arrays and futures; neither HTTP nor any runtime. The rules (and who taught them) are in
`docs/adr/0003-batch-rules.md`:

- The queue is bounded; a full one refuses at once and never waits.
- Work-conserving: an idle engine slot takes waiting tiles at once, even a single one. Tiles gather
  only while every slot is busy; there is no timer. `scheduler` chooses the tiles.
- Cancelled and expired tiles leave the queue at once.
- An engine error fails its batch and nothing else. If the loop itself fails, every waiting
  tile fails and the service is no longer ready.

Batches run on the threads of `engine_slots`; futures are settled on the event loop only.
"""

import asyncio
import time
from collections.abc import Sequence

from engines.protocol import Engine
from engines.sixteen_bit import Tile16
from service.batching.answers import AnswerMemory
from service.batching.batch_reporter import BatchObserver
from service.batching.costs import BatchCosts
from service.batching.engine_slots import EngineSlots, Item, Outcome
from service.batching.scheduler import Scheduler
from service.batching.tile_runner import Tile, TileResult
from service.ground.errors import DeadlineExceeded, EngineFailed, NotReady, QueueFull
from service.ground.priority import Priority


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
        answer_bytes: int,
        online_budget_s: float,
        observer: BatchObserver,
    ) -> None:
        """Prepare the batcher; `start` begins to work.

        Args:
            engine: The loaded, warmed engine.
            costs: Costs of the engine's batches; the largest bucket is the maximum batch size.
            max_queue: Maximum number of waiting tiles, without the tiles in the engine.
            answer_bytes: Size of the usual answer.
            online_budget_s: Seconds after which an online tile without a deadline is due.
            observer: Observer of every batch, for metrics and logs.
        """
        self._observer = observer
        self._scheduler: Scheduler[Item] = Scheduler(
            costs, slots=engine.slots, max_waiting=max_queue, online_budget_s=online_budget_s
        )
        answers = AnswerMemory(engine, answer_bytes=answer_bytes)
        self._slots = EngineSlots(
            engine, self._scheduler, answers, on_done=self._settle, on_failure=self._loop_failed
        )
        self._lock = self._slots.lock
        self._is_closing = False
        self._failure: BaseException | None = None
        self._suspended: str | None = None
        self._items: dict[asyncio.Future[TileResult], Item] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        """Start the engine's slots; call on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._slots.start()

    @property
    def depth(self) -> int:
        """Number of waiting tiles."""
        return self._scheduler.num_waiting

    def depth_of(self, priority: Priority) -> int:
        """Number of waiting tiles of a class."""
        return self._scheduler.waiting(priority)

    @property
    def in_flight(self) -> int:
        """Tiles that an engine slot works on, or whose results are on their way back."""
        return self._slots.in_flight

    def oldest_batch_s(self) -> float:
        """Seconds that the engine has worked on the batch that it began first; 0 when idle."""
        return self._slots.oldest_batch_s()

    @property
    def unavailable(self) -> str | None:
        """Reason why no tile can be run now, or None."""
        return self._ended or self._suspended

    @property
    def _ended(self) -> str | None:
        """Reason why no tile can be run any more, or None."""
        if self._failure is not None:
            return "the engine loop has failed; the service must be restarted"
        return "the service is shutting down" if self._is_closing else None

    def suspend(self, reason: str | None) -> None:
        """Reject new and waiting tiles for a reason; None accepts tiles again.

        Tiles that are submitted with `is_admitted` still run.
        """
        self._suspended = reason
        if reason is not None:
            with self._lock:
                waiting = [entry.payload for entry in self._scheduler.take_all()]
            self._fail(waiting, NotReady(reason, retry_after_s=1.0))

    def expected_wait_s(self, priority: Priority = Priority.ONLINE) -> float:
        """Estimate the seconds until all tiles that wait or are in flight now are done."""
        with self._lock:
            return self._scheduler.drain_s(priority, time.monotonic())

    def check(
        self, count: int, *, deadline_s: float | None = None, priority: Priority = Priority.ONLINE
    ) -> None:
        """Refuse tiles that would not be admitted now; raises as `submit`."""
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
        bits: int = 8,
        outputs: Sequence[Tile | Tile16] | None = None,
        is_admitted: bool = False,
    ) -> list[asyncio.Future[TileResult]]:
        """Queue the tiles of one request, all or none.

        Args:
            tiles: Arrays (H, W) uint8 of one shape; they must not change until their futures are
                done.
            deadline_s: `time.monotonic()` at which the tiles expire.
            priority: Class of the tiles.
            bits: Bits of the answers, see `TileRunner.submit`.
            outputs: Memory of the answers, (scale*H, scale*W) each; None takes its own.
            is_admitted: Whether they were admitted before and bypass the limits of the queue.

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
        items = [
            Item(tile, self._loop.create_future(), now_s, output, bits)
            for tile, output in zip(tiles, outputs or [None] * len(tiles), strict=True)
        ]
        for item in items:
            self._items[item.future] = item
            item.future.add_done_callback(lambda future, item=item: self._forget(item, future))
            if deadline_s is not None:
                item.expiry = self._loop.call_later(deadline_s - now_s, self._expire, item)
        self._idle.clear()
        with self._lock:
            entries = self._scheduler.add(
                items,
                shape=(*tiles[0].shape, bits),
                priority=priority,
                deadline_s=deadline_s,
                now_s=now_s,
            )
            for item, entry in zip(items, entries, strict=True):
                item.entry = entry
            self._slots.wake(len(items))
        return [item.future for item in items]

    def withdraw(self, future: asyncio.Future[TileResult]) -> bool:
        """Cancel a tile that still waits.

        Returns:
            False if it does not wait: its batch is in flight and uses its memory, or it is done.
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
            False if the time ran out.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Refuse new tiles, fail the waiting ones, and let the threads end."""
        with self._lock:
            self._is_closing = True
            abandoned = [entry.payload for entry in self._scheduler.take_all()]
            self._slots.close()
        self._fail(abandoned, NotReady("the service is shutting down"))

    async def join(self, timeout_s: float) -> bool:
        """Wait for the threads to end after `close`.

        Returns:
            False if a thread is still in an engine call when the time runs out.
        """
        return await self._slots.join(timeout_s)

    def _settle(self, outcome: Outcome) -> None:
        items, error = outcome.items, outcome.error
        self._slots.release(items)
        queue_s = [outcome.started_s - item.submitted_s for item in items]
        # Futures first: a report that cannot be written must not delay any client.
        if error is not None or outcome.flags is None:
            failure = EngineFailed("the engine failed on the batch that held this tile")
            failure.__cause__ = error
            self._fail(items, failure)
        else:
            for item, flags, waited_s in zip(items, outcome.flags, queue_s, strict=True):
                if item.output is not None and not item.future.done():
                    result = TileResult(item.output, flags, waited_s, outcome.infer_s, len(items))
                    item.future.set_result(result)
        if error is not None:
            self._observer.batch_error(error)
        classes = [entry.priority for entry in outcome.batch.entries]
        self._observer.batch_finished(
            waits=list(zip(classes, queue_s, strict=True)),
            infer_s=outcome.infer_s,
            failed=error is not None,
        )

    def _expire(self, item: Item) -> None:
        """Runs at a tile's deadline; a tile that the engine works on is left alone."""
        with self._lock:
            if item.future.done() or self._slots.holds(item):
                return
            if item.entry is not None:
                self._scheduler.discard(item.entry)
        self._fail([item], DeadlineExceeded("the deadline passed while the tile waited"))
        self._observer.deadlines_missed(1)

    def _fail(self, items: Sequence[Item], error: Exception) -> None:
        for item in items:
            if not item.future.done():
                item.future.set_exception(error)

    def _forget(self, item: Item, future: asyncio.Future[TileResult]) -> None:
        """Clean up when a tile's future is done, failed or cancelled."""
        self._items.pop(future, None)
        if item.expiry is not None:
            item.expiry.cancel()
        if not self._items:
            self._idle.set()
        # Break the reference cycle, so that the tile is freed without waiting for the GC.
        entry, item.entry = item.entry, None
        if future.cancelled():
            with self._lock:
                if entry is None or not self._scheduler.discard(entry):
                    return  # its batch is in flight: the result is dropped when it arrives
            self._observer.tiles_cancelled(1)

    def _loop_failed(self, error: BaseException) -> None:
        self._failure = error
        with self._lock:
            waiting = [entry.payload for entry in self._scheduler.take_all()]
            abandoned = [*waiting, *self._slots.running()]
            self._is_closing = True
            self._slots.close()
        self._fail(abandoned, EngineFailed("the engine loop has failed"))
        self._observer.loop_failed(error)
