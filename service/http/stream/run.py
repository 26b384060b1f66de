"""One stream of tiles in progress: a reader, the images between, and a writer in their order.

The reader takes an image only when there are places for it, so that the upload waits for the engine
and for the client to read. The writer releases places when an answer has left. A bad image fails
only its own answer. An error that makes the rest of the upload unreadable ends the answer, with a
problem that states how many images were answered.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from service.batching.upscaler import CHEAP_TYPES, Upscaler
from service.ground.errors import (
    DeadlineExceeded,
    NotReady,
    QueueFull,
    RequestTimeout,
    ServiceError,
)
from service.http.body import ClientGone
from service.http.stream.answer import StreamAnswer
from service.http.stream.entries import Entry
from service.http.stream.hashed import Hashed
from service.http.stream.places import Hold, Window
from service.http.stream.reader import read_entries
from service.http.stream.request import StreamContext, StreamRequest
from service.http.stream.upload import TruncatedUpload
from service.images.image_steps import Answer, Prepared

_MIN_RETRY_S, _MAX_RETRY_S = 0.02, 0.5
_WATCH_PERIOD_S = 0.5
_MAX_WAITING = 64


@dataclass(frozen=True)
class _Slot:
    """One image whose answer is due next."""

    index: int
    name: str | None
    answer: asyncio.Future[Answer]
    hold: Hold | None


@dataclass(frozen=True)
class _End:
    """The end of the stream, and the error that ended it early, or None."""

    error: ServiceError | None


class TileStream:
    """One request; `run` serves it.

    Attributes:
        answer: The answer, with its counts.
    """

    def __init__(
        self, request: StreamRequest, upscaler: Upscaler, window: Window, context: StreamContext
    ) -> None:
        """Prepare.

        Args:
            request: Headers of the request.
            upscaler: Serves the images.
            window: Places for its images.
            context: Connection of the request, and the service.
        """
        self._request = request
        self._upscaler = upscaler
        self._window = window
        self._context = context
        self.answer = StreamAnswer(request.container, context)
        # Bounded, because refused images hold no places.
        self._queue: asyncio.Queue[_Slot | _End] = asyncio.Queue(_MAX_WAITING)
        self._tasks: set[asyncio.Future[Answer]] = set()
        self._is_reading = True
        self._count = 0

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
        stopping = loop.create_task(self._context.stopping.wait())
        watcher = loop.create_task(self._watch())
        tasks = (reader, writer, stopping, watcher)
        try:
            while not writer.done():
                waiting = [task for task in tasks if not task.done()]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if writer.done():
                    break  # the server reports a disconnect to a reader then
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

    async def _read(self) -> None:
        error: ServiceError | None = None
        try:
            async with contextlib.aclosing(read_entries(self._request, self._context)) as entries:
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
        # The rest of the upload is discarded: a client that only sends could not read the answer
        # otherwise, and its leaving is noticed by this.
        while (await self._context.receive())["type"] != "http.disconnect":
            pass
        raise ClientGone

    async def _take(self, entry: Entry) -> None:
        """Start one image, as soon as there are places for it."""
        index, self._count = self._count, self._count + 1
        loop = asyncio.get_running_loop()
        hold: Hold | None = None
        try:
            if entry.refusal is not None:
                raise entry.refusal
            hold = await self._window.take_upload(entry.size_bytes)
            loaded = await entry.load()
            lines = self._context.lines
            # None otherwise: it would keep the image's bytes until the answer.
            hashed = None if lines is None else Hashed(loaded, lines, entry.name, index)
            prepared = await self._upscaler.prepare(
                loaded.decode if hashed is None else hashed.decode,
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
            task = loop.create_task(self._finish(prepared, hold, hashed))
            self._tasks.add(task)
            task.add_done_callback(self._forget)
            await self._queue.put(_Slot(index, entry.name, task, hold))

    def _forget(self, answer: asyncio.Future[Answer]) -> None:
        """Remove an image that is done, and mark its error as retrieved."""
        self._tasks.discard(answer)
        if not answer.cancelled():
            answer.exception()

    async def _finish(self, prepared: Prepared, hold: Hold, hashed: Hashed | None) -> Answer:
        """Run one image, and write its log line where the service audits."""
        answer = await self._run_image(prepared, hold)
        if hashed is not None:
            await hashed.write(answer)
        return answer

    async def _run_image(self, prepared: Prepared, hold: Hold) -> Answer:
        """Run one image, and retry while the queue is full."""
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
        """Raise `ClientGone` if the client leaves while no data are read from it or sent to it."""
        while self._context.is_connected():  # noqa: ASYNC110 (the kernel sets no event)
            await asyncio.sleep(_WATCH_PERIOD_S)
        raise ClientGone

    async def _write(self) -> None:
        while isinstance(slot := await self._queue.get(), _Slot):
            await self.answer.write(slot.index, slot.name, slot.answer)
            if slot.hold is not None:
                self._window.release(slot.hold)
        await self.answer.end(slot.error)


async def _cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait for their ends."""
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
