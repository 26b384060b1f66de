"""The body of a request: read within limits of size and time; a client that leaves is noticed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from starlette.types import Receive, Scope

from service.errors import BadRequest, ImageTooLarge, RequestTimeout
from service.settings import Settings
from service.upscaler import Admission


class ClientGone(Exception):  # noqa: N818 (nothing failed: nobody is left to be told)
    """The client closed the connection before its answer."""


async def read_body(
    scope: Scope, receive: Receive, admission: Admission, settings: Settings
) -> bytes:
    """Read the whole body; the places that it fills are held before it is read.

    Raises:
        ClientGone: The client left before its body was there.
        ImageTooLarge: The body is larger than the settings allow.
        QueueFull: There are not as many places now.
        RequestTimeout: It came too slowly.
        BadRequest: Content-Length is no number.
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
            f"{received} bytes of the body came within {settings.body_timeout_s:g} s; "
            "the rest did not (SEMSR_BODY_TIMEOUT_S)"
        ) from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


@contextlib.asynccontextmanager
async def cancelled_on_disconnect(receive: Receive) -> AsyncGenerator[None]:
    """Cancel the block when the client goes; turn that into `ClientGone`."""
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
            raise ClientGone from None
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
