"""uvicorn's HTTP protocol, stricter: bounded heads, unambiguous framing, clients that must read.

Further differences: Upgrade headers are ignored, HTTP/1.0 gets neither chunks nor 100 Continue, and
malformed HTTP is answered with a problem like any other error.

Neither uvicorn nor httptools bounds a head: one connection that sends header lines without end
takes memory and, because the parser reads everything again, the event loop's time. The same is true
of trailers and chunk extensions.

httptools refuses two lengths, a length with a transfer coding, folded headers, and bad chunk sizes:
a proxy that reads such a request in another way would take a part of it for another client's. The
rest is refused here: other transfer codings than chunked, and none or several Host headers.
"""

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.ground.errors import BadRequest
from service.http.connection import CONNECTION, Connection, JoinedWrites
from service.http.framing import ended_by_closing, framing_refusal
from service.http.problems import problem_from

MAX_HEAD_BYTES = 65_536
# Key of the extension of an ASGI scope that holds the reason to refuse a request.
REFUSAL = "semsr.refusal"
_MAPPED_IPV4 = "::ffff:"


class BoundedHttp(HttpToolsProtocol):
    """One connection; see the module.

    Attributes:
        head_timeout_s: Time limit for a head, from its first byte (for the first head of a
            connection: from the connection itself).
        send_timeout_s: Time after which the kernel gives up on a peer that takes no data.
    """

    head_timeout_s: float
    send_timeout_s: float

    # Bytes of a head so far; of a body too where they hold no data: trailers, extensions.
    _head_bytes = 0
    _in_head = True
    _is_between = True
    _has_body = False
    # A request that asks to upgrade ends for the parser with its head.
    _asks_upgrade = False
    _is_replay = False
    _deadline: asyncio.TimerHandle | None = None
    _idle_since_s = 0.0
    _cycles: tuple[RequestResponseCycle, ...] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Set the limits of a new connection."""
        self._joined = JoinedWrites(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._joined))
        if self.client is not None and self.client[0].startswith(_MAPPED_IPV4):
            # One name for a client, independent of the family of the listening socket.
            self.client = self.client[0].removeprefix(_MAPPED_IPV4), self.client[1]
        self._connection = Connection(transport)
        self._connection.set_send_timeout(self.send_timeout_s)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every unfinished request that its client has left."""
        self._end_head()
        super()._unset_keepalive_if_required()
        super().connection_lost(exc)
        # uvicorn handles the last one only; with pipelining others are in flight.
        for cycle in self._unfinished():
            cycle.disconnected = True
            cycle.message_event.set()
        self.pipeline.clear()
        self._connection.lost()

    def data_received(self, data: bytes) -> None:
        """Parse received data, within the bounds of a head."""
        was_in_head, self._has_body = self._in_head, False
        if not self._feed(data):
            return
        if self._in_head and self._deadline is None:
            self._begin_head()
        # Data in one piece with the end of a body are bounded by the size of a read.
        if (was_in_head and self._in_head) or not (
            was_in_head or self._is_between or self._has_body
        ):
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._give_up()

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._is_replay:
            return
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self._connection}  # type: ignore[typeddict-item] # uvicorn names the known ones only

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        if self._in_head:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        # A trailer must not pass for a header, such as a key that a proxy has removed.
        if not self._in_head:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Serve the request whose head is complete."""
        if self._is_replay:
            return
        self._in_head = False
        self._head_bytes = 0
        self._end_head()
        version: str = self.parser.get_http_version()
        if version != "1.1":
            # HTTP/1.0 would take it for the answer.
            self.expect_100_continue = False
        self._asks_upgrade = self.parser.should_upgrade()
        self._begin_request(version)
        # Not before: a target that cannot be parsed ends above, and its request is not served.
        self._is_between = False

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._note_body()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Mark the end of the body."""
        if self._asks_upgrade:
            return
        self._is_between = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin the next request, or wait for it; see `timeout_keep_alive_handler`."""
        self._idle_since_s = self.loop.time()
        if self.pipeline or self.timeout_keep_alive_task is None:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _unset_keepalive_if_required(self) -> None:
        """Keep the timer: a new one for each request would cost more than what it limits."""

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for the whole time limit."""
        self.timeout_keep_alive_task = None
        if self._in_head or self._unfinished():
            return  # the end of that request sets the timer again
        left_s = self._idle_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0:
            super().timeout_keep_alive_handler()
            return
        self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP, after the answers to earlier requests.

        It is never sent within an answer, as it would look like a part of it.
        """
        others = list(self._unfinished())
        if others and not self._is_between:
            broken = others.pop()
            waiting = [entry for entry in self.pipeline if entry[0] is not broken]
            self.pipeline.clear()
            self.pipeline.extend(waiting)
            if not others and broken.response_started:
                self.transport.close()
                return
        if others:
            # The earlier requests get their answers, and then the connection ends.
            others[-1].keep_alive = False
            return
        problem = problem_from(BadRequest(msg), request_id="", path="")
        headers = [*problem.headers, (b"connection", b"close")]
        lines = [b"HTTP/1.1 400 Bad Request", *(b"%b: %b" % header for header in headers)]
        self.transport.write(b"\r\n".join([*lines, b"", problem.body]))
        self.transport.close()

    def _begin_request(self, version: str) -> None:
        """Let the app serve the request whose head is complete."""
        super().on_headers_complete()
        # If none is queued, the previous one has been answered.
        before = self._unfinished() if self.pipeline else ()
        self._cycles = (*before, self.cycle)
        if version == "1.0":
            cast("Any", self.cycle).send = ended_by_closing(self.cycle)
        refusal = framing_refusal(version, self.headers)
        if refusal is not None:
            self.scope["extensions"][REFUSAL] = refusal  # type: ignore[typeddict-item] # as above
            self.cycle.keep_alive = False

    def _note_body(self) -> None:
        self._has_body = True
        self._head_bytes = 0

    def _feed(self, data: bytes | memoryview) -> bool:
        """Parse received data; returns False if they are not HTTP."""
        try:
            while True:
                try:
                    self.parser.feed_data(data)
                except httptools.HttpParserUpgrade as upgrade:
                    data = memoryview(data)[int(upgrade.args[0]) :]
                    self._go_on_without_upgrade()
                else:
                    return True
        except httptools.HttpParserError as error:
            self.logger.warning("malformed HTTP from %s: %s", self.client, error)
            self.send_400_response("the request is not well-formed HTTP")
            return False

    def _go_on_without_upgrade(self) -> None:
        """Parse the body of a request that asked for another protocol.

        Clients that offer HTTP/2 (Java's by default) do so in their first POST.
        """
        self._asks_upgrade = False
        framing = b"".join(
            b"%b: %b\r\n" % header
            for header in self.headers
            if header[0] in {b"content-length", b"transfer-encoding"}
        )
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._is_replay = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
        self._is_replay = False

    def _unfinished(self) -> tuple[RequestResponseCycle, ...]:
        """Requests without a complete answer, in their order."""
        return tuple(cycle for cycle in self._cycles if not cycle.response_complete)

    def _begin_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _end_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        """Abort the connection, as its head did not arrive in time."""
        self._end_head()
        if not self.transport.is_closing():
            self.transport.abort()
