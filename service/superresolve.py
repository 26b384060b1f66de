"""`POST /superresolve`: the hot route, plain ASGI inside the FastAPI app.

FastAPI's own request and response layer costs about as much as everything else that happens to a
raw tile, so this route reads and answers by itself, and `service.app` finds it before FastAPI's
router (`docs/adr/0004-raw-bodies-plain-asgi.md`). Its OpenAPI text is in `service.openapi`.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable

from starlette.types import Receive, Scope, Send

from service.errors import BadRequest, ImageTooLarge, RequestTimeout
from service.lifecycle import Lifecycle
from service.metadata import format_pixel_size
from service.request import parse_request
from service.upscaler import Admission, Answer


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
        facts["priority"] = request.priority
        with upscaler.admit(request) as admission:
            started_s = time.perf_counter()
            try:
                body = await self._read_body(scope, receive, admission)
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
            # In two parts: the server takes the second when the first has left its buffer, so the
            # request keeps its places for as long as its answer takes up memory.
            await send({"type": "http.response.body", "body": answer.body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _read_body(self, scope: Scope, receive: Receive, admission: Admission) -> bytes:
        """Read the whole body; the places that it fills are held before it is read."""
        limit = self._settings.max_body_bytes
        size = _content_length(scope)
        _check_size(size, limit)
        admission.hold_upload(size)
        chunks: list[bytes] = []
        received = 0
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _ClientGone
                    chunks.append(message["body"])
                    received += len(message["body"])
                    if received > size:
                        _check_size(received, limit)
                        admission.hold_upload(received)
                    if not message.get("more_body", False):
                        break
        except TimeoutError as error:
            raise RequestTimeout(
                f"{received} bytes of the body came within {self._settings.body_timeout_s:g} s; "
                "the rest did not (SEMSR_BODY_TIMEOUT_S)"
            ) from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


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


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ImageTooLarge(
            f"the body has {size} bytes or more; at most {limit} are accepted "
            "(SEMSR_MAX_BODY_BYTES)"
        )


def _content_length(scope: Scope) -> int:
    """The announced size of the body; 0 where none is announced."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            try:
                return int(value)
            except ValueError as error:
                raise BadRequest(f"Content-Length is {value!r}; expected an integer") from error
    return 0


def _headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    height, width = answer.shape
    headers = [
        (b"content-type", answer.media_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-tile-shape", f"{height},{width}".encode()),
        (b"x-tile-dtype", answer.dtype.encode()),
        (b"x-quality", answer.quality.header().encode()),
    ]
    if answer.pixel_size is not None:
        headers.append((b"x-pixel-size-nm", format_pixel_size(answer.pixel_size).encode()))
    return headers
