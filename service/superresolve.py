"""`POST /superresolve`: the hot route, plain ASGI inside the FastAPI app.

FastAPI's own request and response layer costs about as much as everything else that happens to a
raw tile, so this route reads and answers by itself (`docs/adr/0004-raw-bodies-plain-asgi.md`); its
OpenAPI text is written by hand in `service.openapi`.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable

from starlette.types import Message, Receive, Scope, Send

from service.errors import BadRequest, ImageTooLarge, RequestTimeout
from service.lifecycle import Lifecycle
from service.metadata import format_pixel_size
from service.request import parse_request
from service.upscaler import Answer


class _ClientGone(Exception):  # noqa: N818 (nothing failed: nobody is left to be told)
    """The client closed the connection before its answer."""


class SuperResolve:
    """The endpoint; one instance serves every request."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._settings = lifecycle.settings
        self._observe_recv: Callable[[float], None] = lifecycle.metrics.stage_duration.labels(
            "recv"
        ).observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; errors are raised to the middleware, which answers them."""
        upscaler = self._lifecycle.upscaler
        facts = scope["state"]["facts"]
        request = parse_request(scope["headers"])
        with upscaler.admit() as admission:
            started_s = time.perf_counter()
            try:
                body = await self._read_body(scope, receive)
                recv_s = time.perf_counter() - started_s
                self._observe_recv(recv_s)
                async with _cancelled_on_disconnect(receive):
                    answer = await upscaler.upscale(body, request, admission)
            except _ClientGone:
                return
            timing = {"recv": recv_s, **answer.stages_s}
            facts["server_timing"] = ", ".join(
                f"{stage};dur={seconds * 1e3:.2f}" for stage, seconds in timing.items()
            )
            facts["tiles"] = answer.tiles
            await send({"type": "http.response.start", "status": 200, "headers": _headers(answer)})
            await send({"type": "http.response.body", "body": answer.body})

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._settings.max_body_bytes
        announced = _content_length(scope)
        if announced is not None and announced > limit:
            raise ImageTooLarge(
                f"the body has {announced} bytes; at most {limit} are accepted "
                "(SEMSR_MAX_BODY_BYTES)"
            )
        message = await self._receive(receive)
        if not message.get("more_body", False):
            return _within(message["body"], limit)
        chunks = [message["body"]]
        size = len(message["body"])
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while message.get("more_body", False):
                    message = await self._receive(receive)
                    chunks.append(message["body"])
                    size += len(message["body"])
                    if size > limit:
                        raise ImageTooLarge(
                            f"the body exceeds {limit} bytes (SEMSR_MAX_BODY_BYTES)"
                        )
        except TimeoutError as error:
            raise RequestTimeout(
                f"{size} bytes of the body came within {self._settings.body_timeout_s:g} s; "
                "the rest did not"
            ) from error
        return b"".join(chunks)

    @staticmethod
    async def _receive(receive: Receive) -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        return message


@contextlib.asynccontextmanager
async def _cancelled_on_disconnect(receive: Receive) -> AsyncGenerator[None]:
    """Cancel the block when the client goes; turn that into `_ClientGone`."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("requests are served in tasks")
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and not task.uncancel():
            raise _ClientGone from None
        raise
    finally:
        watcher.cancel()


def _within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise ImageTooLarge(f"the body exceeds {limit} bytes (SEMSR_MAX_BODY_BYTES)")
    return body


def _content_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            try:
                return int(value)
            except ValueError as error:
                raise BadRequest(f"Content-Length is {value!r}; expected an integer") from error
    return None


def _headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    height, width = answer.shape
    headers = [
        (b"content-type", answer.media_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-tile-shape", f"{height},{width}".encode()),
        (b"x-tile-dtype", answer.dtype.encode()),
    ]
    if answer.pixel_size is not None:
        headers.append((b"x-pixel-size-nm", format_pixel_size(answer.pixel_size).encode()))
    return headers
