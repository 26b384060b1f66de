"""A non-blocking HTTP/1.1 connection that counts the bytes of an answer without reading them.

It reads only the head of an answer, and the body if the status is not 200: a small problem that may
name a retry time. All other bytes are received into one buffer and counted.
"""

import json
import re
import select
import socket
import time
from dataclasses import dataclass

Address = tuple[str, int]

RECEIVE_BYTES = 1 << 20
_MAX_HEAD_BYTES = 65536
_MAX_TEXT_BYTES = 65536
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


def http_request(
    path: str, headers: dict[str, str], body: bytes, *, length: int | None = None
) -> bytes:
    """Return the bytes of a POST request.

    Args:
        path: Path of the route.
        headers: Headers in addition to Host and Content-Length.
        body: Body that is sent.
        length: Content-Length that is announced; None announces that of the body.
    """
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: loadtest",
        f"Content-Length: {len(body) if length is None else length}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@dataclass(frozen=True)
class TileRequest:
    """A request that sends a tile.

    Attributes:
        path: Path of the route.
        body: Bytes of the tile.
        headers: Headers that describe it.
        answer_bytes: Length of a good answer's body.
    """

    path: str
    body: bytes
    headers: dict[str, str]
    answer_bytes: int

    def http(self, headers: dict[str, str] | None = None) -> bytes:
        """Return the whole HTTP/1.1 request, with further headers if there are any."""
        return http_request(self.path, {**self.headers, **(headers or {})}, self.body)


class Exchange:
    """A keep-alive connection and the request that is in flight on it.

    Attributes:
        socket: Non-blocking socket.
        status: Status of the answer; 0 while its head is not there.
        length: Length of the answer's body in bytes.
        is_answered: Whether the whole answer is there.
        closes: Whether the server closes the connection after this answer.
        sent_s: `time.monotonic()` when the request began to leave.
        idle_since_s: `time.monotonic()` when the last answer was complete; 0 before the first.
    """

    def __init__(self, address: Address) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        # It returns 115 (in progress); whether it succeeds shows when the request is sent.
        self.socket.connect_ex(address)
        self.idle_since_s = 0.0
        self._prepare(b"")

    def _prepare(self, request: bytes) -> None:
        self._unsent = memoryview(request)
        self._head = b""
        self._text = b""
        self._missing_bytes = -1
        self.status = 0
        self.length = 0
        self.is_answered = False
        self.closes = False

    @property
    def is_sent(self) -> bool:
        """Whether the whole request has left."""
        return not self._unsent

    def begin(self, request: bytes) -> None:
        """Start the next request on the connection."""
        self._prepare(request)
        self.sent_s = time.monotonic()
        self.send()

    def send(self) -> None:
        """Send as many bytes as the kernel accepts."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            # The server refused without reading all of it; its answer may still be there to read.
            self._unsent = memoryview(b"")
            self.closes = True

    def receive(self, buffer: memoryview) -> None:
        """Read the bytes that have arrived.

        Raises:
            ConnectionError: The connection ended before the answer did, or the answer is invalid.
        """
        try:
            count = self.socket.recv_into(buffer)
        except BlockingIOError:
            return
        if count == 0:
            raise ConnectionError("the server closed the connection")
        if self._missing_bytes < 0:
            # Not all of it: most of a large buffer is the picture, which would be copied.
            self._head += buffer[: min(count, _MAX_HEAD_BYTES)]
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            self._read_head(self._head[:end])
            self._missing_bytes = self.length + end + 4
            self._missing_bytes -= len(self._head) + max(0, count - _MAX_HEAD_BYTES)
            if self.status != 200:
                self._text = self._head[end + 4 :]
        else:
            self._missing_bytes -= count
            if self.status != 200 and len(self._text) < _MAX_TEXT_BYTES:
                self._text += buffer[:count]
        self.is_answered = self._missing_bytes <= 0

    def _read_head(self, head: bytes) -> None:
        length = _LENGTH.search(head)
        status = head.split(b" ", 2)[1:2]
        if length is None or not status or not status[0].isdigit():
            raise ConnectionError(f"not an answer with a length: {head[:200]!r}")
        self.status = int(status[0])
        self.length = int(length[1])
        self.closes = self.closes or _CLOSE.search(head) is not None

    def round_trip_s(self, request: bytes, buffer: memoryview, *, timeout_s: float) -> float:
        """Send a request and wait for its whole answer; returns the seconds that it took.

        Raises:
            TimeoutError: Nothing happened for `timeout_s`.
            ConnectionError: See `receive`.
        """
        self.begin(request)
        while not self.is_answered:
            writers = [] if self.is_sent else [self.socket]
            readable, writable, _ = select.select([self.socket], writers, [], timeout_s)
            if not readable and not writable:
                raise TimeoutError(f"no answer within {timeout_s:g} s")
            if writable:
                self.send()
            if readable:
                self.receive(buffer)
        return time.monotonic() - self.sent_s

    def retry_after_ms(self) -> float | None:
        """Read `retry_after_ms` of a problem; None where the answer has none."""
        try:
            value = json.loads(self._text).get("retry_after_ms")
        except (ValueError, AttributeError):
            return None
        return None if value is None else float(value)
