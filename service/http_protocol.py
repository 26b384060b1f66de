"""uvicorn's HTTP protocol with bounds on the head of a request, and on clients that do not read.

What differs besides: a wish to upgrade is ignored, HTTP/1.0 gets no chunks, and what is no HTTP is
answered with a problem like any other.

Neither uvicorn nor httptools bounds a head: one connection that sends header lines for ever takes
memory and, since the parser looks at everything again, the event loop's time.

Head and body of an answer leave in one system call: uvicorn writes them one after the other, and
the first, small one wakes the client, which takes as long as sending a whole picture.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import BadRequest
from service.problems import problem_from

MAX_HEAD_BYTES = 65_536
# Where a request finds its connection in its ASGI scope's extensions.
CONNECTION = "semsr.connection"
_ESTABLISHED = 1  # tcp_states.h
# Any head, and small answers whole.
_MAX_HELD_BYTES = 4096
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


class Connection:
    """What a request needs to know of its connection, beyond ASGI.

    Attributes:
        is_lost: Whether the server has seen its end.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._on_lost: Callable[[], None] | None = None
        self.is_lost = False

    def watch(self, on_lost: Callable[[], None] | None) -> None:
        """Have something called when the connection is lost; None ends that.

        One at a time: a connection serves its requests one after the other.
        """
        self._on_lost = on_lost

    def lost(self) -> None:
        """Note that the connection is lost; called by the protocol."""
        self.is_lost = True
        if self._on_lost is not None:
            self._on_lost()

    def is_open(self) -> bool:
        """Whether the peer is there: known also while nothing is read from it."""
        if self._transport.is_closing():
            return False
        connection = self._transport.get_extra_info("socket")
        if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
            return True
        try:
            state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        except OSError:
            return False
        return state == _ESTABLISHED

    def set_send_timeout(self, seconds: float) -> None:
        """Let the kernel wait for so long for a peer that takes no data."""
        connection = self._transport.get_extra_info("socket")
        if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
            connection.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000)
            )

    def abort(self) -> None:
        """End it at once; what has not been sent is dropped."""
        if not self._transport.is_closing():
            self._transport.abort()


class JoinedWrites:
    """A transport on which a small piece waits for what follows it, until the loop's next turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the transport has)
        """Everything else is the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send data, after what is held."""
        size = len(data)
        if not size:
            return
        if size + self._held_bytes <= _MAX_HELD_BYTES:
            if not self._held:
                self._loop.call_soon(self._flush)
            self._held.append(data)
            self._held_bytes += size
        elif self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            self._transport.writelines([*held, data])
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Send what is held, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.writelines(held)


def _without_upgrade(data: bytes) -> bytes:
    """Leave the header Upgrade out of a head, so that it is answered as if it did not wish for it.

    The parser takes an upgrade for the end of the request and drops its body; clients that offer
    HTTP/2 (Java's, unless told otherwise) send the header with their first POST.
    """
    head = data[: data.find(b"\r\n\r\n")]
    if b"upgrade:" not in head.lower():
        return data
    return _UPGRADE.sub(b"", head) + data[len(head) :]


def _ended_by_closing(cycle: RequestResponseCycle) -> Callable[[Any], Awaitable[None]]:
    """Make a `send` for HTTP/1.0, which knows no chunks: the end of the connection is the end.

    Args:
        cycle: The request, whose own `send` would put what has no Content-Length into chunks.
    """
    send = cycle.send
    has_length = False

    async def send_plainly(message: Any) -> None:  # noqa: ANN401 (any of ASGI's)
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
            if not has_length:
                cycle.chunked_encoding = False
        elif not has_length:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    return send_plainly


def bounded_protocol(*, head_timeout_s: float, send_timeout_s: float) -> type[HttpToolsProtocol]:
    """Make a protocol class for `uvicorn.Config(http=…)`.

    Args:
        head_timeout_s: Longest time for a head, from its first byte (for the first head of a
            connection: from the connection itself).
        send_timeout_s: Time after which the kernel gives up on a peer that takes no data.
    """

    class BoundedHttp(HttpToolsProtocol):
        """One connection; see the module."""

        _head_bytes = 0
        _in_head = True
        _is_between = True
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            joined = JoinedWrites(transport, self.loop)
            super().connection_made(cast("asyncio.Transport", joined))
            self._connection = Connection(transport)
            self._connection.set_send_timeout(send_timeout_s)
            self._begin_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_head()
            super().connection_lost(exc)
            self._connection.lost()

        def data_received(self, data: bytes) -> None:
            was_in_head = self._in_head
            if self._is_between:
                data = _without_upgrade(data)
            super().data_received(data)
            # What comes in one piece with the end of a body is bounded by the size of a read.
            if was_in_head and self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._give_up()

        def on_message_begin(self) -> None:
            self._in_head = True
            self._head_bytes = 0
            if self._deadline is None:
                self._begin_head()
            super().on_message_begin()
            self.scope["extensions"] = {CONNECTION: self._connection}  # type: ignore[typeddict-item] # uvicorn names the known ones only

        def on_headers_complete(self) -> None:
            self._in_head = self._is_between = False
            self._end_head()
            super().on_headers_complete()
            if self.scope["http_version"] == "1.0":
                cast("Any", self.cycle).send = _ended_by_closing(self.cycle)

        def on_message_complete(self) -> None:
            self._is_between = True
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            """Answer what is no HTTP; not within an answer, of which it would look like a part."""
            if not (
                self.cycle and self.cycle.response_started and not self.cycle.response_complete
            ):
                problem = problem_from(BadRequest(msg), request_id="", path="")
                headers = [*problem.headers, (b"connection", b"close")]
                lines = [b"HTTP/1.1 400 Bad Request", *(b"%b: %b" % header for header in headers)]
                self.transport.write(b"\r\n".join([*lines, b"", problem.body]))
            self.transport.close()

        def _begin_head(self) -> None:
            self._deadline = self.loop.call_later(head_timeout_s, self._give_up)

        def _end_head(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            """Cut the connection: there is no request yet that could be answered."""
            self._end_head()
            if not self.transport.is_closing():
                self.transport.abort()

    return BoundedHttp
