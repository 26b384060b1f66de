"""The request of a stream of tiles: its headers, checked before its body is read."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from service.ground.errors import UnsupportedMediaType
from service.ground.metrics import Metrics
from service.ground.priority import Priority
from service.http.audit import ImageLines
from service.http.stream.archives import TAR
from service.http.stream.upload import Receive
from service.http.stream.zip_entries import ZIP
from service.images.codec.sniffing import NPY, RAW, TIFF
from service.images.media_types import choose_answer, choose_container, parse_media_type
from service.images.request import MULTIPART, TileRequest, parse_request
from service.settings import Settings

STREAMED_TYPES = (RAW, NPY, TAR)
SPOOLED_TYPES = (TIFF, ZIP)
STREAM_TYPES = STREAMED_TYPES + SPOOLED_TYPES

Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class StreamRequest:
    """The headers of one stream of tiles.

    Attributes:
        media_type: Media type of the body; one of `STREAM_TYPES`, or that of a form.
        container: Media type of the answer.
        tile: Headers for each image, without a deadline.
        timeout_s: Time limit in seconds for an image's answer, from the moment it was read.
    """

    media_type: str
    container: str
    tile: TileRequest
    timeout_s: float | None

    def for_image(self) -> TileRequest:
        """Return the headers for an image that has been read now."""
        if self.timeout_s is None:
            return self.tile
        return replace(self.tile, deadline_s=time.monotonic() + self.timeout_s)


@dataclass(frozen=True)
class StreamContext:
    """One request on its connection.

    Attributes:
        settings: Settings of the service.
        metrics: Counters of images.
        receive: ASGI's.
        send: ASGI's.
        is_connected: Function that returns whether the client is still connected.
        stopping: Event that is set when the service is asked to end; no further image is read then.
        request_id: Id of the request, for problems.
        path: Path of the request, for problems.
        lines: Log lines of images, where the service audits; else None.
    """

    settings: Settings
    metrics: Metrics
    receive: Receive
    send: Send
    is_connected: Callable[[], bool]
    stopping: asyncio.Event
    request_id: str
    path: str
    lines: ImageLines | None = None


def parse_stream_request(raw_headers: Iterable[tuple[bytes, bytes]]) -> StreamRequest:
    """Read the headers of one stream; throughput work, so its class is nightly by default.

    Args:
        raw_headers: Lower-case names and values, as ASGI gives them.

    Raises:
        BadRequest: A header is malformed.
        NotAcceptable: The client accepts no type of answer.
        UnsupportedMediaType: The body's type is not one of `STREAM_TYPES`.
    """
    headers = list(raw_headers)
    content_type = dict(headers).get(b"content-type", b"").decode("latin-1")
    readable = (*STREAM_TYPES, MULTIPART)
    if not content_type or parse_media_type(content_type) not in readable:
        raise UnsupportedMediaType(
            f"Content-Type is {content_type[:80]!r}; expected one of {', '.join(readable)}"
        )
    tile = parse_request(headers, default_priority=Priority.NIGHTLY)
    container, accept = choose_container(tile.accept)
    # Raised now and not for every image.
    choose_answer(accept, RAW)
    left_s = None if tile.deadline_s is None else tile.deadline_s - time.monotonic()
    return StreamRequest(
        media_type=tile.media_type,
        container=container,
        tile=replace(tile, accept=accept, deadline_s=None),
        timeout_s=left_s,
    )
