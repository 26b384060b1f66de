"""The file to read first: how every pending tile goes from the source to the sink.

    journal.pending ──read──> upscaler ──> sink.write ──> sink.sync ──> journal.record

Look-ahead is bounded by places, each the memory of a tile's way to the sink; so many more may wait
to be recorded, so that nobody who writes waits for a commit. A tile that cannot be read, computed
or written is recorded and the scan goes on; a store that is lost ends it, and what was not recorded
stays pending. Outcomes are recorded in groups: one fsync of a folder and one commit for all that
came meanwhile.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from service.errors import EngineFailed, NotReady, QueueFull, ServiceError
from service.metadata import PixelSize
from service.request import TileRequest
from service.scans.errors import ScanError, TileError
from service.scans.facts import pixel_size, scaled
from service.scans.rows import Counts, Outcome, PendingTile
from service.scans.sinks import Computed, Sink
from service.scans.sources import Source, SourceImage
from service.scheduling.scheduler import Priority
from service.upscaler import Answer
from service.window import Window

Result = TypeVar("Result")

# An engine's failure on a batch may have been another tile's fault: each gets one more try.
_ATTEMPTS = 2
# Of a place that may be free again at once.
_LEAST_PAUSE_S = 0.05
# Units that are read from the journal at a time.
_GROUP_UNITS = 256


class Upscale(Protocol):
    """Super-resolves one image; `service.upscaler` behind its admission."""

    def __call__(self, body: bytes, request: TileRequest) -> Awaitable[Answer]:
        """Raises what `Upscaler.admit` and `Upscaler.upscale` raise."""
        ...


class Ledger(Protocol):
    """What is to be done and what was: the journal, or a part of it on another machine."""

    def pending(self) -> Iterator[PendingTile]:
        """Yield the pending tiles in the order of their positions; safe for `record` meanwhile."""
        ...

    def counts(self) -> Counts:
        """Count the tiles."""
        ...

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Note what became of tiles, all or none of them; in any thread.

        Raises:
            StoreLostError: It cannot be written.
        """
        ...


@dataclass(frozen=True)
class ScanOptions:
    """How tiles are read and written.

    Attributes:
        scale: Upscaling factor of the model.
        tile_bytes: Bytes of a tile of the model's own size: one place.
        look_ahead: Places in all.
        priority: Class of the tiles.
        window: Grey range of 16-bit input, or None for the bundle's.
        answer_dtype: uint8 or uint16.
        pixel_size: Of the input, where it does not say so itself, or None.
    """

    scale: int
    tile_bytes: int
    look_ahead: int
    priority: Priority = Priority.ONLINE
    window: Window | None = None
    answer_dtype: str = "uint8"
    pixel_size: PixelSize | None = None


class Scan:
    """One run over what is pending; create and use it on one event loop."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        journal: Ledger,
        upscale: Upscale,
        options: ScanOptions,
        *,
        on_progress: Callable[[Counts], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            source: Where tiles come from, already listed in the journal.
            sink: Where they go.
            journal: What is done.
            upscale: Super-resolves one.
            options: How.
            on_progress: Told after every group of recorded tiles.
        """
        self._source = source
        self._sink = sink
        self._journal = journal
        self._upscale = upscale
        self._options = options
        self._on_progress = on_progress
        threads = max(source.io_threads, sink.io_threads)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="scan")
        # Of its own, so that a commit never waits behind the reads and writes that it is for.
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="scan-commit")
        self._look_ahead = max(options.look_ahead, 2 * sink.unit_tiles)
        self._places = _Places(self._look_ahead)
        self._unrecorded = _Places(2 * self._look_ahead)
        self._written: asyncio.Queue[tuple[list[Outcome], asyncio.Future[None]]] = asyncio.Queue()
        self._counts = journal.counts()
        self._stopping = False
        self._failure: Exception | None = None

    def stop(self) -> None:
        """Begin no more tiles; those under way are finished."""
        self._stopping = True
        self._open_places()

    async def run(self) -> None:
        """Compute every pending tile, or until `stop`.

        Raises:
            StoreLostError: The source or the sink is lost; what was recorded is done.
            ScanError: The engine cannot go on.
        """
        recorder = asyncio.create_task(self._record_all())
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for unit in self._units():
                # Its tiles stay pending from here until their outcomes are recorded.
                places = await self._take_places(unit)
                if self._stopping or self._failure is not None:
                    break
                task = asyncio.create_task(self._finish_unit(unit, places))
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
            # A read that waits for a lost store must not hold up those who share the event loop.
            await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
            await asyncio.to_thread(self._committer.shutdown, wait=True)
        if self._failure is not None:
            raise self._failure

    async def _units(self) -> AsyncIterator[list[PendingTile]]:
        """Yield the pending tiles that are written together, read from the journal in a thread."""
        units = self._pending_units()
        while group := await asyncio.to_thread(lambda: list(islice(units, _GROUP_UNITS))):
            for unit in group:
                yield unit

    def _pending_units(self) -> Iterator[list[PendingTile]]:
        unit: list[PendingTile] = []
        size = self._sink.unit_tiles
        for tile in self._journal.pending():
            if unit and (size == 1 or tile.position // size != unit[0].position // size):
                yield unit
                unit = []
            unit.append(tile)
        if unit:
            yield unit

    async def _take_places(self, unit: Sequence[PendingTile]) -> int:
        # A file's head makes no second tile of it.
        places = sum(max(1, t.ref.size_bytes // self._options.tile_bytes) for t in unit)
        places = min(places, self._look_ahead)
        await self._unrecorded.take(len(unit))
        await self._places.take(places)
        return places

    async def _finish_unit(self, unit: list[PendingTile], places: int) -> None:
        try:
            try:
                outcomes = await self._write(unit)
            finally:
                # The pictures are gone with the call; what waits to be recorded are rows.
                self._places.give_back(places)
            await self._record(outcomes)
        except Exception as error:  # raised by `run`: the first one says why the scan ends
            self._failure = self._failure or error
            self._open_places()
        finally:
            self._unrecorded.give_back(len(unit))

    async def _write(self, unit: list[PendingTile]) -> list[Outcome]:
        """Compute tiles and write them; raises as `_compute` and `Sink.write`."""
        results = await asyncio.gather(*(self._compute(tile) for tile in unit))
        computed = [result for result in results if isinstance(result, Computed)]
        outcomes = [result for result in results if isinstance(result, Outcome)]
        return outcomes + await self._in_thread(lambda: self._sink.write(unit, computed))

    def _open_places(self) -> None:
        self._places.open()
        self._unrecorded.open()

    async def _compute(self, tile: PendingTile) -> Computed | Outcome:
        """Read and super-resolve one tile.

        Raises:
            StoreLostError: The source is lost.
            ScanError: The engine cannot go on.
        """
        digest: str | None = None
        try:
            image, digest = await self._in_thread(lambda: self._read(tile))
            answer = await self._answer(image)
        except TileError as error:
            return Outcome(tile.id, "failed", error=str(error), input_sha256=digest)
        except NotReady as error:
            raise ScanError(f"the engine cannot go on: {error.detail}") from error
        except ServiceError as error:
            reason = f"{error.title}: {error.detail}"
            return Outcome(tile.id, "failed", error=reason, input_sha256=digest)
        return Computed(tile, answer, scaled(image.facts, self._options.scale), digest)

    def _read(self, tile: PendingTile) -> tuple[SourceImage, str]:
        image = self._source.read(tile.ref)
        return image, hashlib.sha256(image.body).hexdigest()

    async def _answer(self, image: SourceImage) -> Answer:
        request = self._request(image)
        attempts = 0
        while True:
            try:
                return await self._upscale(image.body, request)
            except QueueFull as error:
                # The service is busy with others; a scan has time.
                await asyncio.sleep(max(_LEAST_PAUSE_S, error.retry_after_s or 0.0))
            except EngineFailed:
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise

    def _request(self, image: SourceImage) -> TileRequest:
        options = self._options
        return TileRequest(
            content_type=image.media_type,
            media_type=image.media_type,
            accept=self._sink.accept() or _own_type(image.media_type),
            shape=image.shape,
            dtype=image.dtype,
            window=options.window,
            answer_dtype=options.answer_dtype,
            pixel_size=pixel_size(image.facts) or options.pixel_size,
            deadline_s=None,
            priority=options.priority,
        )

    async def _record(self, outcomes: list[Outcome]) -> None:
        """Return once the outcomes are in the journal; raises as `Journal.record`."""
        if outcomes:
            done = asyncio.get_running_loop().create_future()
            self._written.put_nowait((outcomes, done))
            await done

    async def _record_all(self) -> None:
        """Record what has been written, all that there is at a time."""
        loop = asyncio.get_running_loop()
        while True:
            groups = [await self._written.get()]
            while not self._written.empty():
                groups.append(self._written.get_nowait())
            outcomes = [outcome for group, _ in groups for outcome in group]
            try:
                await loop.run_in_executor(self._committer, self._commit, outcomes)
            except Exception as error:  # whoever waits must be told, whatever it is
                for _, done in groups:
                    if not done.done():
                        done.set_exception(error)
                continue
            num_done = sum(outcome.status == "done" for outcome in outcomes)
            self._counts = Counts(
                self._counts.total,
                self._counts.done + num_done,
                self._counts.failed + len(outcomes) - num_done,
            )
            for _, done in groups:
                if not done.done():
                    done.set_result(None)
            self._on_progress(self._counts)

    def _commit(self, outcomes: list[Outcome]) -> None:
        outputs = [outcome.output for outcome in outcomes if outcome.output is not None]
        self._sink.sync(outputs)
        self._journal.record(outcomes)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class _Places:
    """A bounded number of places, taken several at a time in the order of asking."""

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
        """Keep nobody waiting any more: the scan ends."""
        self._is_open = True
        self._changed.set()


def _own_type(media_type: str) -> str | None:
    """Raw pixels of an array become npy; images keep their type."""
    return "application/x-npy" if media_type == "application/octet-stream" else None
