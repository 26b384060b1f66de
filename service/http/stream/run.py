"""One stream of tiles under way: a reader, the images between, and a writer that keeps their order.

The reader takes an image only when there are places for it, so the upload waits for the engine and
for the client to read; the writer gives places back when an answer has left. A bad image costs its
own answer only; what makes the rest of the upload unreadable ends the answer with a problem that
says how far it got.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from service.batching.upscaler import CHEAP_TYPES, Upscaler
from service.ground.errors import (
    DeadlineExceeded,
    NotReady,
    QueueFull,
    RequestTimeout,
    ServiceError,
)
from service.ground.metrics import Metrics
from service.http.body import ClientGone
from service.http.problems import MEDIA_TYPE as PROBLEM_TYPE
from service.http.problems import problem_from
from service.http.stream.archives import (
    TAR,
    Archive,
    OutEntry,
    Piece,
    answer_name,
    make_archive,
    problem_name,
)
from service.http.stream.entries import Entry
from service.http.stream.form import FormUpload
from service.http.stream.places import Hold, Window
from service.http.stream.request import STREAM_TYPES, StreamRequest
from service.http.stream.spooled_entries import read_tiff, spooled
from service.http.stream.stacks import read_npy, read_raw
from service.http.stream.tar_entries import read_tar
from service.http.stream.upload import Receive, TruncatedUpload, Upload
from service.http.stream.zip_entries import read_zip
from service.images.codec.sniffing import NPY, RAW, TIFF
from service.images.image_steps import Answer, Prepared
from service.images.metadata import format_pixel_size
from service.images.request import MULTIPART
from service.settings import Settings

log = structlog.get_logger()

Send = Callable[[dict[str, Any]], Awaitable[None]]

STREAM_PROBLEM = "batch.problem.json"
# Large enough to cost little, small enough that a slow client takes one within its time-out.
_PIECE_BYTES = 1 << 18
_MIN_RETRY_S, _MAX_RETRY_S = 0.02, 0.5
_WATCH_PERIOD_S = 0.5
_MAX_WAITING = 64


class SlowReader(Exception):  # noqa: N818 (the client is at fault, and cannot be told)
    """The client did not take its answer in time."""


@dataclass(frozen=True)
class _Slot:
    """One image whose answer is due next."""

    index: int
    name: str | None
    answer: asyncio.Future[Answer]
    hold: Hold | None


@dataclass(frozen=True)
class _End:
    """The end of the stream, and what ended it, if anything did."""

    error: ServiceError | None


class TileStream:
    """One request; `run` serves it."""

    def __init__(
        self,
        request: StreamRequest,
        upscaler: Upscaler,
        window: Window,
        *,
        settings: Settings,
        metrics: Metrics,
        receive: Receive,
        send: Send,
        is_connected: Callable[[], bool],
        stopping: asyncio.Event,
        request_id: str,
        path: str,
    ) -> None:
        """Prepare.

        Args:
            request: Its headers.
            upscaler: Serves the images.
            window: Its places.
            settings: Of the service.
            metrics: Told of images.
            receive: ASGI's.
            send: ASGI's.
            is_connected: Whether the client is still there, asked now and then.
            stopping: Set when the service is asked to end; no further image is read then.
            request_id: For problems.
            path: For problems.
        """
        self._request = request
        self._upscaler = upscaler
        self._window = window
        self._settings = settings
        self._metrics = metrics
        self._receive = receive
        self._send_message = send
        self._is_connected = is_connected
        self._stopping = stopping
        self._request_id = request_id
        self._path = path
        self._upload = self._make_upload(receive)
        self._archive: Archive = make_archive(request.container)
        # Bounded, because what is refused holds no places.
        self._queue: asyncio.Queue[_Slot | _End] = asyncio.Queue(_MAX_WAITING)
        self._tasks: set[asyncio.Future[Answer]] = set()
        self._is_reading = True
        self._has_begun = False
        self._count = 0
        self.done = 0
        self.failed = 0
        self.ended_by: ServiceError | None = None

    def _make_upload(self, receive: Receive) -> Upload:
        return Upload(
            receive,
            idle_timeout_s=self._settings.batch_idle_timeout_s,
            piece_timeout_s=self._settings.body_timeout_s,
        )

    async def run(self) -> None:
        """Serve the stream.

        Raises:
            ServiceError: It failed before anything was answered.
            ClientGone: The client left.
            SlowReader: The client did not read.
        """
        loop = asyncio.get_running_loop()
        reader = loop.create_task(self._read())
        writer = loop.create_task(self._write())
        stopping = loop.create_task(self._stopping.wait())
        watcher = loop.create_task(self._watch())
        tasks = (reader, writer, stopping, watcher)
        try:
            while not writer.done():
                waiting = [task for task in tasks if not task.done()]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if writer.done():
                    break  # the server says "disconnected" to whoever still reads then
                for task in (watcher, reader):
                    if task.done() and not task.cancelled():
                        task.result()
                if stopping.done() and self._is_reading:
                    self._is_reading = False
                    reader.cancel()
            writer.result()
        finally:
            await _cancel(tasks)
            await _cancel(tuple(self._tasks))
            self._window.release_all()

    # --- the reader ---

    async def _read(self) -> None:
        error: ServiceError | None = None
        try:
            async with contextlib.aclosing(self._entries()) as entries:
                async for entry in entries:
                    await self._take(entry)
        except ServiceError as caught:
            error = caught
        except asyncio.CancelledError:
            if self._is_reading:
                raise
            error = NotReady("the service is shutting down")
        self._is_reading = False
        await self._queue.put(_End(error))
        # What still comes is of no use, but a client that sends it must be able to, or it would
        # never read why; and this is how its leaving is noticed.
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise ClientGone

    async def _entries(self) -> AsyncGenerator[Entry]:
        upload, settings = self._upload, self._settings
        kind, tile = self._request.media_type, self._request.tile
        if kind == MULTIPART:
            form = FormUpload(upload, tile.content_type)
            kind = await form.open(STREAM_TYPES)
            upload = self._make_upload(form.receive)
        if kind == RAW:
            entries = read_raw(
                upload, shape=tile.shape, dtype=tile.dtype, max_pixels=settings.max_pixels
            )
        elif kind == NPY:
            entries = read_npy(upload, max_pixels=settings.max_pixels)
        elif kind == TAR:
            entries = read_tar(upload, max_entry_bytes=settings.max_body_bytes)
        else:
            async with spooled(
                upload, max_bytes=settings.max_spool_bytes, folder=settings.spool_dir
            ) as file:
                pages = (
                    read_tiff(file)
                    if kind == TIFF
                    else read_zip(file, max_entry_bytes=settings.max_body_bytes)
                )
                async for entry in pages:
                    yield entry
            return
        async for entry in entries:
            yield entry

    async def _take(self, entry: Entry) -> None:
        """Bring one image under way, as soon as there are places for it."""
        index, self._count = self._count, self._count + 1
        loop = asyncio.get_running_loop()
        hold: Hold | None = None
        try:
            if entry.refusal is not None:
                raise entry.refusal
            hold = await self._window.take_upload(entry.size_bytes)
            loaded = await entry.load()
            prepared = await self._upscaler.prepare(
                loaded.decode,
                loaded.media_type,
                self._request.for_image(),
                is_cheap=loaded.media_type in CHEAP_TYPES
                and loaded.size_bytes <= self._upscaler.place_bytes,
            )
            hold = await self._window.grow(hold, prepared.places)
        except (TruncatedUpload, RequestTimeout, NotReady):
            raise
        except ServiceError as error:
            if hold is not None:
                self._window.release(hold)
            answer: asyncio.Future[Answer] = loop.create_future()
            answer.add_done_callback(self._forget)
            answer.set_exception(error)
            await self._queue.put(_Slot(index, entry.name, answer, None))
        else:
            task = loop.create_task(self._finish(prepared, hold))
            self._tasks.add(task)
            task.add_done_callback(self._forget)
            await self._queue.put(_Slot(index, entry.name, task, hold))

    def _forget(self, answer: asyncio.Future[Answer]) -> None:
        """Runs when an image is done; its error counts as seen, though nobody may fetch it."""
        self._tasks.discard(answer)
        if not answer.cancelled():
            answer.exception()

    async def _finish(self, prepared: Prepared, hold: Hold) -> Answer:
        """Run one image, however long the queue is full."""
        deadline_s = prepared.request.deadline_s
        while True:
            try:
                return await self._upscaler.finish(prepared, hold.admission)
            except QueueFull as full:
                wait_s = min(max(full.retry_after_s or 0.0, _MIN_RETRY_S), _MAX_RETRY_S)
                if deadline_s is not None and time.monotonic() + wait_s > deadline_s:
                    raise DeadlineExceeded("the deadline passed while the tile waited") from full
                await asyncio.sleep(wait_s)

    async def _watch(self) -> None:
        """Notice a client that leaves while nothing is read from it or sent to it."""
        while self._is_connected():  # noqa: ASYNC110 (the kernel sets no event)
            await asyncio.sleep(_WATCH_PERIOD_S)
        raise ClientGone

    # --- the writer ---

    async def _write(self) -> None:
        while isinstance(slot := await self._queue.get(), _Slot):
            await self._begin()
            entry = await self._answer(slot)
            await self._send(self._archive.entry(entry))
            if slot.hold is not None:
                self._window.release(slot.hold)
        self.ended_by = slot.error
        if slot.error is not None:
            if not self._has_begun:
                raise slot.error
            await self._send(self._archive.entry(self._stream_problem(slot.error)))
        await self._begin()
        await self._send(self._archive.end())
        await self._send_timed({"type": "http.response.body", "body": b""})

    async def _begin(self) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        headers = [
            (b"content-type", self._archive.content_type.encode()),
            # nginx would gather the answer otherwise, and the client wait for its first tile.
            (b"x-accel-buffering", b"no"),
        ]
        await self._send_timed({"type": "http.response.start", "status": 200, "headers": headers})

    async def _answer(self, slot: _Slot) -> OutEntry:
        """Wait for one image's answer and make its entry, or its problem's."""
        try:
            answer = await slot.answer
        except Exception as error:
            if not isinstance(error, ServiceError):
                log.exception("batch_entry_failed", request_id=self._request_id)
            self.failed += 1
            self._metrics.stream_entries.labels("failed").inc()
            name = None if slot.name is None else slot.name.encode("utf-8", "replace").decode()
            return self._problem(
                problem_name(slot.name, slot.index),
                error,
                {"scope": "tile", "index": slot.index, "entry": name},
            )
        self.done += 1
        self._metrics.stream_entries.labels("ok").inc()
        height, width = answer.shape
        facts = {
            "X-Tile-Index": str(slot.index),
            "X-Tile-Shape": f"{height},{width}",
            "X-Tile-Dtype": answer.dtype,
            "X-Quality": answer.quality.header(),
        }
        if answer.pixel_size is not None:
            facts["X-Pixel-Size-Nm"] = format_pixel_size(answer.pixel_size)
        name = answer_name(slot.name, slot.index, answer.media_type)
        return OutEntry(name, answer.media_type, answer.body, facts)

    def _stream_problem(self, error: ServiceError) -> OutEntry:
        more = {"scope": "batch", "tiles_done": self.done, "tiles_failed": self.failed}
        return self._problem(STREAM_PROBLEM, error, more)

    def _problem(self, name: str, error: Exception, more: Mapping[str, object]) -> OutEntry:
        problem = problem_from(error, request_id=self._request_id, path=self._path, more=more)
        return OutEntry(name, PROBLEM_TYPE, problem.body)

    async def _send(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            for start in range(0, len(piece), _PIECE_BYTES):
                part = piece[start : start + _PIECE_BYTES]
                await self._send_timed(
                    {"type": "http.response.body", "body": part, "more_body": True}
                )

    async def _send_timed(self, message: dict[str, Any]) -> None:
        """Send one message; the server takes it when what came before has left."""
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                await self._send_message(message)
        except TimeoutError as error:
            raise SlowReader from error


async def _cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait for their ends."""
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
