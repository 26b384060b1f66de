"""Runs a scan: takes every pending tile from the source to the sink. Read this file first.

    journal.pending ──read──> engine ──encode──> sink.write ──> sink.sync ──> journal.record

Tiles go in groups, see `group_work`. Reading, encoding and writing have separate threads. The
number of writers follows the number of files that the disk takes in parallel.

Places bound the look-ahead; each is the memory of one tile on its way to the sink. As many tiles
again may wait to be recorded, so that no writer waits for a commit. Outcomes are recorded together:
each folder gets one fsync, and the journal gets one commit.

If a tile cannot be read, computed or written, the scan records its error and goes on. If a store is
lost, the scan ends, and tiles that were not recorded stay pending.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar, cast

from service.scans.group_work import GroupWork, Loaded, Run, Upscaling
from service.scans.options import ScanOptions
from service.scans.rows import Counts, Outcome, PendingTile
from service.scans.sinks import Computed, Sink
from service.scans.sources import Source

Result = TypeVar("Result")

# Groups that are read from the journal at once.
_PAGE_GROUPS = 64


class Ledger(Protocol):
    """Pending tiles and outcomes: the journal, or a part of it on another machine."""

    def pending(self) -> Iterator[PendingTile]:
        """Yield the pending tiles in the order of their positions, also during `record`."""
        ...

    def counts(self) -> Counts:
        """Count the tiles."""
        ...

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes of tiles, all or none; call it in any thread.

        Raises:
            StoreLostError: It cannot be written.
        """
        ...


class Scan:
    """One run over the pending tiles; create and use it on one event loop."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        journal: Ledger,
        upscaling: Upscaling,
        options: ScanOptions,
        *,
        on_progress: Callable[[Counts], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            source: Source of the tiles, already listed in the journal.
            sink: Sink of the answers.
            journal: Pending tiles and outcomes.
            upscaling: Model that runs the tiles.
            options: Options of reading and writing.
            on_progress: Callback with the counts after every commit.
        """
        self._source = source
        self._sink = sink
        self._journal = journal
        self._work = GroupWork(source, sink, upscaling, options)
        self._upscaling = upscaling
        self._tile_bytes = options.tile_bytes
        self._on_progress = on_progress
        self._readers = ThreadPoolExecutor(
            -(-source.io_at_once // source.io_per_thread), thread_name_prefix="scan-read"
        )
        self._encoders = ThreadPoolExecutor(options.cores, thread_name_prefix="scan-encode")
        self._writers = ThreadPoolExecutor(
            -(-sink.io_at_once // sink.io_per_thread), thread_name_prefix="scan-write"
        )
        # Separate, so that a commit never waits behind the reads and writes.
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="scan-commit")
        self._look_ahead = max(options.look_ahead, 2 * sink.unit_tiles)
        # Few places still make several groups, one at each stage.
        self._group_places = max(1, min(sink.io_per_thread, self._look_ahead // 4))
        self._places = _Places(self._look_ahead)
        self._unrecorded = _Places(2 * self._look_ahead)
        self._written: asyncio.Queue[tuple[list[Outcome], asyncio.Future[None]]] = asyncio.Queue()
        self._counts = journal.counts()
        self._stopping = False
        self._failure: Exception | None = None

    def stop(self) -> None:
        """Begin no more tiles, but finish the tiles in progress."""
        self._stopping = True
        self._open_places()

    async def run(self) -> None:
        """Compute the pending tiles until all are done or `stop` is called.

        Raises:
            StoreLostError: The source or the sink is lost; recorded tiles stay done.
            ScanError: The engine cannot go on.
        """
        recorder = asyncio.create_task(self._record_all())
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for group in self._groups():
                # Its tiles stay pending from here until their outcomes are recorded.
                places = await self._take_places(group)
                if self._stopping or self._failure is not None:
                    break
                task = asyncio.create_task(self._finish_group(group, places))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        finally:
            recorder.cancel()
            await asyncio.gather(recorder, return_exceptions=True)
            # A read that waits for a lost store must not block the event loop.
            for threads in (self._readers, self._encoders, self._writers):
                await asyncio.to_thread(threads.shutdown, wait=True, cancel_futures=True)
            await asyncio.to_thread(self._committer.shutdown, wait=True)
        if self._failure is not None:
            raise self._failure

    async def _groups(self) -> AsyncIterator[list[PendingTile]]:
        """Yield groups of pending tiles; a thread reads them from the journal."""
        groups = self._pending_groups()
        while page := await asyncio.to_thread(lambda: list(islice(groups, _PAGE_GROUPS))):
            for group in page:
                yield group

    def _pending_groups(self) -> Iterator[list[PendingTile]]:
        group: list[PendingTile] = []
        for tile in self._journal.pending():
            if group and not self._belongs(tile, group):
                yield group
                group = []
            group.append(tile)
        if group:
            yield group

    def _belongs(self, tile: PendingTile, group: Sequence[PendingTile]) -> bool:
        unit_tiles = self._sink.unit_tiles
        if unit_tiles > 1:
            return tile.position // unit_tiles == group[0].position // unit_tiles
        return self._count_places([*group, tile]) <= self._group_places

    def _count_places(self, group: Iterable[PendingTile]) -> int:
        # Rounded down: a file with a header is still one tile.
        return sum(max(1, tile.ref.size_bytes // self._tile_bytes) for tile in group)

    async def _take_places(self, group: Sequence[PendingTile]) -> int:
        places = min(self._count_places(group), self._look_ahead)
        await self._unrecorded.take(len(group))
        await self._places.take(places)
        return places

    async def _finish_group(self, group: list[PendingTile], places: int) -> None:
        try:
            try:
                outcomes = await self._write(group)
            finally:
                # The images are freed with the call; only rows wait to be recorded.
                self._places.give_back(places)
            await self._record(outcomes)
        except Exception as error:  # raised by `run`: the first one is the reason
            self._failure = self._failure or error
            self._open_places()
        finally:
            self._unrecorded.give_back(len(group))

    async def _write(self, group: list[PendingTile]) -> list[Outcome]:
        """Compute and write a group; returns its outcomes, raises as `GroupWork`."""
        parts = await _all(
            _in_thread(self._readers, lambda part=part: self._work.load(part))
            for part in _parts(group, self._source.io_per_thread)
        )
        loaded = [one for part in parts for one in part]
        results = await _all(self._work.infer(one) for one in loaded if isinstance(one, Loaded))
        failed = [one for one in (*loaded, *results) if isinstance(one, Outcome)]
        runs = [one for one in results if isinstance(one, Run)]
        # The threads below must hold the last reference to every image.
        del parts, loaded, results
        computed, refused = await _in_thread(self._encoders, lambda: self._work.encode(runs))
        for seconds in [one.answer.stages_s["encode"] for one in computed]:
            self._upscaling.observe_encode(seconds)
        written = await _in_thread(self._writers, lambda: self._put(group, computed))
        return failed + refused + written

    def _put(self, group: Sequence[PendingTile], computed: list[Computed]) -> list[Outcome]:
        """Write tiles, and free their images in this thread rather than on the event loop."""
        try:
            return self._sink.write(group, computed)
        finally:
            computed.clear()

    def _open_places(self) -> None:
        self._places.open()
        self._unrecorded.open()

    async def _record(self, outcomes: list[Outcome]) -> None:
        """Wait until the outcomes are in the journal; raises as `Sink.sync` and `Ledger.record`."""
        if outcomes:
            done = asyncio.get_running_loop().create_future()
            self._written.put_nowait((outcomes, done))
            await done

    async def _record_all(self) -> None:
        """Record outcomes; groups written during one commit share the next."""
        loop = asyncio.get_running_loop()
        while True:
            groups = [await self._written.get()]
            while not self._written.empty():
                groups.append(self._written.get_nowait())
            outcomes = [outcome for group, _ in groups for outcome in group]
            try:
                await loop.run_in_executor(self._committer, self._commit, outcomes)
            except Exception as error:  # every waiting group gets it, of any kind
                for _, done in groups:
                    if not done.done():
                        done.set_exception(error)
                continue
            self._counts = self._counts.with_outcomes(outcomes)
            for _, done in groups:
                if not done.done():
                    done.set_result(None)
            self._on_progress(self._counts)

    def _commit(self, outcomes: list[Outcome]) -> None:
        outputs = [outcome.output for outcome in outcomes if outcome.output is not None]
        self._sink.sync(outputs)
        self._journal.record(outcomes)


class _Places:
    """A bounded number of places; one task takes them, so that they go in order."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._is_open = False
        self._changed = asyncio.Event()

    async def take(self, count: int) -> None:
        while self._free < count and not self._is_open:
            self._changed.clear()
            await self._changed.wait()
        self._free -= count

    def give_back(self, count: int) -> None:
        self._free += count
        self._changed.set()

    def open(self) -> None:
        """Let every `take` return at once, because the scan ends."""
        self._is_open = True
        self._changed.set()


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


async def _all(work: Iterable[Awaitable[Result]]) -> list[Result]:
    """Wait for all awaitables, then return their results or raise the first error."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("list[Result]", results)


def _parts(group: Sequence[PendingTile], size: int) -> Iterator[Sequence[PendingTile]]:
    return (group[first : first + size] for first in range(0, len(group), size))
