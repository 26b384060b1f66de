"""A front end's view of a model whose engines are processes of their own.

A tile is copied into a slot and named to the engine process that will be done first; its answer is
a view of the same slot, which is free again when nobody holds the view any more: whoever still
sends it keeps it.

If an engine process dies, its tiles are given to another one, or to its successor, once: a tile
that is there when two of them die may be what kills them.
"""

import asyncio
import functools
import time
from collections.abc import Sequence

import structlog

from service.batching.tile_runner import Tile, TileResult
from service.ground.errors import DeadlineExceeded, EngineFailed, NotReady, QueueFull, ServiceError
from service.ground.priority import Priority
from service.pool.engine_link import EngineLink, RemoteTile
from service.pool.messages import SlotResult, Submission, pack_cancel, pack_submission
from service.pool.slots import Slots

log = structlog.get_logger()

# Longest that a tile waits for an engine process to be there again.
_MAX_ORPHAN_S = 30.0
# Slots in one message, which has 128 KiB at most.
_MAX_SLOTS = 16_384
_NO_SUCCESSOR = "the engine has ended and is not started anew"


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
            slots: Of this front end.
            model: Name, for errors.
            scale: Upscaling factor.
            max_queue: Most tiles that wait in one engine process.
            online_budget_s: When an online tile without a deadline is due.
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
            self._send([tile], link)

    @property
    def unavailable(self) -> str | None:
        """Why no tile can be run now; None if it can."""
        if self._is_closing:
            return "the service is shutting down"
        if not any(link.is_up for link in self._links):
            if self._is_abandoned:
                return _NO_SUCCESSOR
            return f"the engine of {self._model} is being started anew"
        return None

    def expected_wait_s(self, priority: Priority = Priority.ONLINE) -> float:
        """Estimate in how many seconds what waits or is under way now will be done."""
        waits = [link.drain_s(priority) for link in self._links if link.is_up]
        return min(waits, default=1.0)

    def check(
        self, count: int, *, deadline_s: float | None = None, priority: Priority = Priority.ONLINE
    ) -> None:
        """Refuse tiles that would surely not be admitted; the engine process decides of the rest.

        Raises:
            QueueFull: There are too many, or what waits will not be done before they are due.
            NotReady: No engine process is there.
        """
        self._admitting(count, deadline_s=deadline_s, priority=priority)

    def _admitting(self, count: int, *, deadline_s: float | None, priority: Priority) -> EngineLink:
        """Return the engine process that tiles go to; raises as `check`."""
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
    ) -> list[asyncio.Future[TileResult]]:
        """Queue the tiles of one request; the engine process's refusal comes by the futures.

        Raises:
            QueueFull: There are not as many slots.
            NotReady: No engine process is there.
        """
        link = self._admitting(len(tiles), deadline_s=deadline_s, priority=priority)
        placed: list[RemoteTile] = []
        for pixels in tiles:
            slot = self._slots.take()
            height, width = pixels.shape
            self._slots.arena.lr(slot, height, width)[...] = pixels
            tile = RemoteTile(
                slot, (height, width), self._loop.create_future(), deadline_s, priority
            )
            tile.future.add_done_callback(functools.partial(self._forget, tile))
            placed.append(tile)
        self._num_open += len(placed)
        self._idle.clear()
        self._send(placed, link)
        return [tile.future for tile in placed]

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every tile is settled and no engine process has one of its slots.

        Returns:
            False if the time ran out before.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def abandon(self) -> None:
        """Wait for no engine process any more, as nobody starts one; those that are there go on."""
        self._is_abandoned = True
        orphans, self._orphans = self._orphans, []
        for tile in orphans:
            self._fail(tile, NotReady(_NO_SUCCESSOR, retry_after_s=1.0))

    def close(self) -> None:
        """Refuse new tiles, fail those that are left, and leave the engine processes."""
        self._is_closing = True
        error = NotReady("the service is shutting down")
        for link in self._links:
            link.close()
            for tile in link.under_way.values():
                # Its slot is lost: the engine may still write there.
                if not tile.future.done():
                    tile.future.set_exception(error)
            link.under_way.clear()
        orphans, self._orphans = self._orphans, []
        for tile in orphans:
            self._fail(tile, error)

    def _choose(self, priority: Priority) -> EngineLink:
        """Return the engine process that will be done first."""
        up = [link for link in self._links if link.is_up]
        if not up or self._is_closing:
            raise NotReady(self.unavailable or "no engine is there", retry_after_s=1.0)
        # What it was sent since it last told counts too.
        return min(
            up, key=lambda link: max(link.drain_s(priority), len(link.under_way) * link.per_tile_s)
        )

    def _send(self, tiles: Sequence[RemoteTile], link: EngineLink) -> None:
        """Send tiles of one request, or a single one again."""
        first = tiles[0]
        for tile in tiles:
            link.under_way[tile.slot] = tile
        for start in range(0, len(tiles), _MAX_SLOTS):
            submission = Submission(
                [tile.slot for tile in tiles[start : start + _MAX_SLOTS]],
                first.shape,
                first.priority,
                first.deadline_s,
                first.is_retry,
            )
            link.send(pack_submission(submission))

    def _take_results(self, link: EngineLink, results: list[SlotResult]) -> None:
        for result in results:
            tile = self._take_back(link, result.slot)
            if tile.future.done():
                self._slots.give_back(tile.slot)
                continue
            height, width = (self._scale * side for side in tile.shape)
            tile.future.set_result(
                TileResult(
                    self._slots.lend(tile.slot, height, width),
                    result.flags,
                    result.queue_s,
                    result.infer_s,
                    result.batch_size,
                )
            )

    def _take_error(
        self, link: EngineLink, slots: Sequence[int], error: ServiceError | None
    ) -> None:
        for slot in slots:
            tile = self._take_back(link, slot)
            self._slots.give_back(slot)
            if not tile.future.done():
                tile.future.set_exception(error or EngineFailed("the tile was taken out"))

    def _take_back(self, link: EngineLink, slot: int) -> RemoteTile:
        """Note that an engine process is done with a slot."""
        tile = link.under_way.pop(slot)
        self._note_idle()
        return tile

    def _note_idle(self) -> None:
        if not self._num_open and not any(link.under_way for link in self._links):
            self._idle.set()

    def _take_loss(self, link: EngineLink) -> None:
        """An engine process has died: what it had is tried once more elsewhere."""
        tiles = list(link.under_way.values())
        link.under_way.clear()
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
            self._send([tile], self._choose(tile.priority))
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

    def _fail(self, tile: RemoteTile, error: ServiceError) -> None:
        """Settle a tile that no engine process has."""
        self._slots.give_back(tile.slot)
        if not tile.future.done():
            tile.future.set_exception(error)

    def _forget(self, tile: RemoteTile, future: asyncio.Future[TileResult]) -> None:
        """Runs when a tile's future is done, however that came about."""
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
            if link.under_way.get(tile.slot) is tile:
                link.send(pack_cancel([tile.slot]))
