"""Reads the body of a request within limits of size and time, and notices a client that leaves."""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from service.batching.admission import Admission
from service.ground.errors import BadRequest, ImageTooLarge, RequestTimeout, UnsuitableOrder
from service.ground.json_body import JsonBodyError, Order, parse_json
from service.http.connection import CONNECTION, Connection
from service.settings import Settings

# Limit of bodies that are not images: orders in JSON.
MAX_SMALL_BODY_BYTES = 64 * 1024


class ClientGone(Exception):  # noqa: N818 (nothing failed, and no client waits)
    """The client closed the connection before its answer."""


async def read_body(
    scope: Scope, receive: Receive, admission: Admission, settings: Settings
) -> bytes:
    """Read the whole body, after its places have been taken.

    Raises:
        ClientGone: The client left before its body was complete.
        ImageTooLarge: The body is larger than the settings allow.
        QueueFull: Too few places are free now.
        RequestTimeout: It arrived too slowly.
        BadRequest: Content-Length is not a number.
    """
    limit = settings.max_body_bytes
    size = _content_length(scope)
    _check_size(size, limit)
    admission.hold_upload(size)
    chunks: list[bytes] = []
    received = 0
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunks.append(message["body"])
                received += len(message["body"])
                if received > size:
                    _check_size(received, limit)
                    admission.hold_upload(received)
                if not message.get("more_body", False):
                    break
    except TimeoutError as error:
        raise RequestTimeout(
            f"{received} bytes of the body arrived within {settings.body_timeout_s:g} s; "
            "the rest did not (SEMSR_BODY_TIMEOUT_S)"
        ) from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_small(request: Request, *, timeout_s: float) -> bytes:
    """Read a small body; its Content-Type is ignored.

    Args:
        request: Request with the body.
        timeout_s: Time limit in seconds for the whole body.

    Raises:
        ImageTooLarge: It has more than `MAX_SMALL_BODY_BYTES`.
        RequestTimeout: It arrived too slowly.
        BadRequest: The client left.
    """
    content = b""
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_SMALL_BODY_BYTES:
                    raise ImageTooLarge(f"the body has more than {MAX_SMALL_BODY_BYTES} bytes")
    except TimeoutError as error:
        raise RequestTimeout(f"the body did not arrive within {timeout_s:g} s") from error
    except ClientDisconnect as error:
        raise BadRequest("the client left before its request was complete") from error
    return content


async def read_order(request: Request, kind: type[Order], *, timeout_s: float) -> Order:
    """Read a small body of JSON; an empty body has the model's defaults.

    Args:
        request: Request with the body.
        kind: Pydantic model of the body.
        timeout_s: Time limit in seconds for the whole body.

    Raises:
        UnsuitableOrder: It does not match the model; also raises as `read_small`.
    """
    content = await read_small(request, timeout_s=timeout_s)
    try:
        return parse_json(content or b"{}", kind)
    except JsonBodyError as error:
        raise UnsuitableOrder(str(error)) from error


class CancelledOnDisconnect:
    """An async context manager: cancels its block when the client goes, and raises `ClientGone`.

    Under `service.http.server` the connection itself reports it: a task that waits in `receive`
    would leave its cancelled frames to the garbage collector, with each tile
    (`docs/adr/0004-raw-bodies-plain-asgi.md`). Under other servers `receive` is awaited.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._connection: Connection | None = scope.get("extensions", {}).get(CONNECTION)
        self._receive = receive
        self._gone = False
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("requests are served in tasks")
        self._task = task
        if self._connection is not None:
            if self._connection.is_lost:
                raise ClientGone
            self._connection.watch(self._cancel)
        else:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if self._connection is not None:
            self._connection.watch(None)
        if self._watcher is not None:
            self._watcher.cancel()
        if isinstance(error, asyncio.CancelledError) and self._gone and not self._task.uncancel():
            raise ClientGone from None

    def _cancel(self) -> None:
        self._gone = True
        self._task.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel()


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
