"""Runs the tiles of one model on engine processes; a front end's counterpart of the batcher.

A tile is copied into a slot and submitted to the engine process that will finish first. Its answer
is a view of the same slot, which is free again when the last reference to the view is gone.

If an engine process dies, its tiles are submitted once more, to another one or to its successor. If
its engine fails on a batch, the batch's tiles are submitted once more to another one that is ready.
If the second process dies or fails too, the tile may be the cause, and fails.
"""

import asyncio
import functools
import time
from collections.abc import Sequence

import numpy as np
import structlog

from engines.protocol import Tile
from service.batching.tile_runner import TileResult
from service.ground.errors import DeadlineExceeded, EngineFailed, NotReady, QueueFull, ServiceError
from service.ground.priority import Priority
from service.pool.engine_link import EngineLink, RemoteTile
from service.pool.messages import SlotResult
from service.pool.slots import Slots

log = structlog.get_logger()

# Time limit for a tile to wait for the next engine process.
_MAX_ORPHAN_S = 30.0
_NO_SUCCESSOR = "the engine has ended and is not started again"


class RemoteRunner:
    """Runs tiles on the engine processes of one model; see `batching.tile_runner.TileRunner`."""

    def __init__(
        self,
        slots: Slots,
        *,
        model: str,
        scale: int,
        max_queue: int,
        online_budget_s: float,
    ) -> None:
        """Begin without an engine.

        Args:
            slots: Slots of this front end.
            model: Model name, for errors.
            scale: Upscaling factor.
            max_queue: Maximum number of tiles that wait in one engine process.
            online_budget_s: Seconds after which an online tile without a deadline is due.
        """
        self._slots = slots
        self._model = model
        self._scale = scale
        self._max_queue = max_queue
        self._online_budget_s = online_budget_s
        self._links: list[EngineLink] = []
        self._orphans: list[RemoteTile] = []
        self._loop = asyncio.get_running_loop()
        self._num_open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closing = False
        self._is_abandoned = False

    def add(self, link: EngineLink) -> None:
        """Use an engine process that is ready."""
        link.on_results = self._take_results
        link.on_error = self._take_error
        link.on_lost = self._take_loss
        if link not in self._links:
            self._links.append(link)
        orphans, self._orphans = self._orphans, []
        for tile in orphans:
            link.submit([tile])

    @property
    def unavailable(self) -> str | None:
        """Reason why no tile can be run now, or None."""
        if self._is_closing:
            return "the service is shutting down"
        if not any(link.is_up for link in self._links):
            if self._is_abandoned:
                return _NO_SUCCESSOR
            return f"the engine of {self._model} is being restarted"
        return None

    def expected_wait_s(self, priority: Priority = Priority.ONLINE) -> float:
        """Estimate the seconds until the engine process with the shortest queue is free."""
        waits = [link.drain_s(priority) for link in self._links if link.is_up]
        return min(waits, default=1.0)

    def check(
        self, count: int, *, deadline_s: float | None = None, priority: Priority = Priority.ONLINE
    ) -> None:
        """Reject tiles that do not fit into the queue now; the engine process may reject others.

        Raises:
            QueueFull: They are too many, or the waiting tiles will not be done before they are due.
            NotReady: No engine process is ready.
        """
        self._admitting(count, deadline_s=deadline_s, priority=priority)

    def _admitting(self, count: int, *, deadline_s: float | None, priority: Priority) -> EngineLink:
        """Return the engine process that takes the tiles; raises as `check`."""
        link = self._choose(priority)
        wait_s = link.drain_s(priority)
        if count > self._slots.num_free:
            raise QueueFull(
                f"{count} slots are needed and {self._slots.num_free} are free",
                retry_after_s=wait_s,
            )
        if link.num_waiting + count > self._max_queue:
            raise QueueFull(
                f"{link.num_waiting} tiles wait and {count} more do not fit into the queue of "
                f"{self._max_queue}",
                retry_after_s=wait_s,
            )
        allowed_s = self._online_budget_s
        if deadline_s is not None:
            allowed_s = deadline_s - time.monotonic()
        if priority is Priority.ONLINE and wait_s > allowed_s:
            raise QueueFull(
                f"what waits will be done in {wait_s:.2f} s; the request allows {allowed_s:.2f} s",
                retry_after_s=wait_s,
            )
        return link

    def submit(
        self,
        tiles: Sequence[Tile],
        *,
        deadline_s: float | None = None,
        priority: Priority = Priority.ONLINE,
        bits: int = 8,
    ) -> list[asyncio.Future[TileResult]]:
        """Queue the tiles of one request; a rejection by the engine process arrives in the futures.

        Raises:
            QueueFull: See `check`.
            NotReady: No engine process is ready.
        """
        link = self._admitting(len(tiles), deadline_s=deadline_s, priority=priority)
        placed: list[RemoteTile] = []
        for pixels in tiles:
            slot = self._slots.take()
            height, width = pixels.shape
            self._slots.arena.lr(slot, height, width)[...] = pixels
            future = self._loop.create_future()
            tile = RemoteTile(slot, (height, width), future, deadline_s, priority, bits=bits)
            tile.future.add_done_callback(functools.partial(self._forget, tile))
            placed.append(tile)
        self._num_open += len(placed)
        self._idle.clear()
        link.submit(placed)
        return [tile.future for tile in placed]

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every tile is settled and no engine process uses a slot.

        Returns:
            Whether the time sufficed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def abandon(self) -> None:
        """Fail tiles that wait for a restart: the supervisor is gone. Running processes go on."""
        self._is_abandoned = True
        self._fail_orphans(NotReady(_NO_SUCCESSOR, retry_after_s=1.0))

    def close(self) -> None:
        """Reject new tiles, fail the others, and disconnect from the engine processes."""
        self._is_closing = True
        error = NotReady("the service is shutting down")
        for link in self._links:
            link.close()
            for tile in link.in_flight.values():
                # Its slot is lost: the engine may still write there.
                if not tile.future.done():
                    tile.future.set_exception(error)
            link.in_flight.clear()
        self._fail_orphans(error)

    def _choose(self, priority: Priority) -> EngineLink:
        """Return the engine process that will finish first."""
        up = [link for link in self._links if link.is_up]
        if not up or self._is_closing:
            raise NotReady(self.unavailable or "no engine is ready", retry_after_s=1.0)
        return min(up, key=lambda link: link.expected_s(priority))

    def _take_results(self, link: EngineLink, results: list[SlotResult]) -> None:
        for result in results:
            tile = link.in_flight.pop(result.slot)
            if tile.future.done():
                self._slots.give_back(tile.slot)
                continue
            height, width = (self._scale * side for side in tile.shape)
            sr = self._slots.lend(tile.slot, height, tile.bits // 8 * width)
            tile.future.set_result(
                TileResult(
                    sr.view(np.uint16) if tile.bits == 16 else sr,
                    result.flags,
                    result.queue_s,
                    result.infer_s,
                    result.batch_size,
                )
            )
        self._note_idle()

    def _take_error(
        self, link: EngineLink, slots: Sequence[int], error: ServiceError | None
    ) -> None:
        others = [other for other in self._links if other.is_up and other is not link]
        for slot in slots:
            tile = link.in_flight.pop(slot)
            is_wanted = not (tile.future.done() or tile.is_retry or self._is_closing)
            if is_wanted and others and isinstance(error, EngineFailed):
                # Its card may be at fault: another engine process shows it.
                tile.is_retry = True
                min(others, key=lambda other: other.expected_s(tile.priority)).submit([tile])
                continue
            self._fail(tile, error or EngineFailed("the tile was withdrawn"))
        self._note_idle()

    def _note_idle(self) -> None:
        if not self._num_open and not any(link.in_flight for link in self._links):
            self._idle.set()

    def _take_loss(self, link: EngineLink) -> None:
        """Submit again the tiles of an engine process that has died."""
        tiles = list(link.in_flight.values())
        link.in_flight.clear()
        log.warning("engine_lost", model=self._model, tiles=len(tiles))
        for tile in tiles:
            if tile.future.done():
                self._slots.give_back(tile.slot)
            elif tile.is_retry:
                self._fail(tile, EngineFailed("the engine died twice with this tile"))
            else:
                self._retry(tile)
        self._note_idle()

    def _retry(self, tile: RemoteTile) -> None:
        tile.is_retry = True
        if self.unavailable is None:
            self._choose(tile.priority).submit([tile])
            return
        if self._is_abandoned:
            self._fail(tile, NotReady(_NO_SUCCESSOR, retry_after_s=1.0))
            return
        self._orphans.append(tile)
        left_s = _MAX_ORPHAN_S
        if tile.deadline_s is not None:
            left_s = min(left_s, tile.deadline_s - time.monotonic())
        tile.expiry = self._loop.call_later(left_s, self._expire, tile)

    def _expire(self, tile: RemoteTile) -> None:
        if tile in self._orphans:
            self._orphans.remove(tile)
            if tile.deadline_s is not None and time.monotonic() >= tile.deadline_s:
                self._fail(tile, DeadlineExceeded("the deadline passed while the engine restarted"))
            else:
                self._fail(tile, NotReady("the engine did not come back", retry_after_s=1.0))

    def _fail_orphans(self, error: ServiceError) -> None:
        orphans, self._orphans = self._orphans, []
        for tile in orphans:
            self._fail(tile, error)

    def _fail(self, tile: RemoteTile, error: ServiceError) -> None:
        """Fail a tile that is in no engine process, and free its slot."""
        self._slots.give_back(tile.slot)
        if not tile.future.done():
            tile.future.set_exception(error)

    def _forget(self, tile: RemoteTile, future: asyncio.Future[TileResult]) -> None:
        """Clean up after a tile whose future is done or cancelled."""
        if tile.expiry is not None:
            tile.expiry.cancel()
        self._num_open -= 1
        self._note_idle()
        if not future.cancelled():
            return
        if tile in self._orphans:
            self._orphans.remove(tile)
            self._slots.give_back(tile.slot)
            return
        for link in self._links:
            # Its slot stays the engine's until it answers.
            if link.in_flight.get(tile.slot) is tile:
                link.withdraw(tile)
