"""Sends the answer to a stream of tiles: an entry for each image, in order, and an end."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

import structlog

from service.ground.errors import ServiceError
from service.http.problems import MEDIA_TYPE as PROBLEM_TYPE
from service.http.problems import problem_from
from service.http.stream.archives import (
    OutEntry,
    Piece,
    answer_name,
    make_archive,
    problem_name,
)
from service.http.stream.request import StreamContext
from service.images.image_steps import Answer
from service.images.metadata import format_pixel_size

log = structlog.get_logger()

STREAM_PROBLEM = "batch.problem.json"
# Large enough to cost little, small enough that a slow client takes one within its timeout.
_PIECE_BYTES = 1 << 18


class SlowReader(Exception):  # noqa: N818 (the client is at fault, and cannot be notified)
    """The client did not take its answer in time."""


class StreamAnswer:
    """Writes the answer, which begins with its first entry.

    Attributes:
        done: Number of images answered.
        tiles: Number of tiles that these images were cut into.
        failed: Number of images that were answered with a problem.
        ended_by: Error that ended the upload early, or None.
    """

    def __init__(self, container: str, context: StreamContext) -> None:
        """Prepare; nothing is sent yet.

        Args:
            container: Media type of the answer.
            context: Connection of the request.
        """
        self._archive = make_archive(container)
        self._context = context
        self._has_begun = False
        self.done = 0
        self.tiles = 0
        self.failed = 0
        self.ended_by: ServiceError | None = None

    async def write(self, index: int, name: str | None, answer: Awaitable[Answer]) -> None:
        """Wait for one image's answer, and send it or its problem as an entry.

        Args:
            index: Number of the image in the stream.
            name: Name that the client gave it, or None.
            answer: Answer, or the error of the image.

        Raises:
            SlowReader: The client does not read.
        """
        await self._begin()
        try:
            found = await answer
        except Exception as error:
            entry = self._failed_entry(index, name, error)
        else:
            entry = self._entry(index, name, found)
        await self._send(self._archive.entry(entry))

    async def end(self, error: ServiceError | None) -> None:
        """Send the end; if an error ended the upload early, send its problem first.

        Raises:
            ServiceError: The error itself, if nothing has been sent.
            SlowReader: The client does not read.
        """
        self.ended_by = error
        if error is not None:
            if not self._has_begun:
                raise error
            more = {"scope": "batch", "tiles_done": self.done, "tiles_failed": self.failed}
            await self._send(self._archive.entry(self._problem(STREAM_PROBLEM, error, more)))
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

    def _entry(self, index: int, name: str | None, answer: Answer) -> OutEntry:
        self.done += 1
        self.tiles += answer.tiles
        self._context.metrics.stream_entries.labels("ok").inc()
        height, width = answer.shape
        facts = {
            "X-Tile-Index": str(index),
            "X-Tile-Shape": f"{height},{width}",
            "X-Tile-Dtype": answer.dtype,
            "X-Quality": answer.quality.header(),
        }
        if answer.pixel_size is not None:
            facts["X-Pixel-Size-Nm"] = format_pixel_size(answer.pixel_size)
        entry_name = answer_name(name, index, answer.media_type)
        return OutEntry(entry_name, answer.media_type, answer.body, facts)

    def _failed_entry(self, index: int, name: str | None, error: Exception) -> OutEntry:
        if not isinstance(error, ServiceError):
            log.exception("batch_entry_failed", request_id=self._context.request_id)
        self.failed += 1
        self._context.metrics.stream_entries.labels("failed").inc()
        shown = None if name is None else name.encode("utf-8", "replace").decode()
        more = {"scope": "tile", "index": index, "entry": shown}
        return self._problem(problem_name(name, index), error, more)

    def _problem(self, name: str, error: Exception, more: Mapping[str, object]) -> OutEntry:
        context = self._context
        problem = problem_from(error, request_id=context.request_id, path=context.path, more=more)
        return OutEntry(name, PROBLEM_TYPE, problem.body)

    async def _send(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            for start in range(0, len(piece), _PIECE_BYTES):
                part = piece[start : start + _PIECE_BYTES]
                await self._send_timed(
                    {"type": "http.response.body", "body": part, "more_body": True}
                )

    async def _send_timed(self, message: dict[str, Any]) -> None:
        """Send one message; the server takes it when the previous one has left."""
        try:
            async with asyncio.timeout(self._context.settings.send_timeout_s):
                await self._context.send(message)
        except TimeoutError as error:
            raise SlowReader from error
