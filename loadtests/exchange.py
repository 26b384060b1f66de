"""One HTTP/1.1 connection that never blocks and never looks at the picture that comes back.

Of an answer only the head is read, and the body where the status is not 200 (a problem, which is
small and says when to come again). Everything else is received into one buffer and counted.
"""

import json
import socket
import time

RECEIVE_BYTES = 1 << 18
_MAX_TEXT_BYTES = 65536


class Exchange:
    """A keep-alive connection and the request that is under way on it.

    Attributes:
        status: Of the answer; 0 while its head is not there.
        length: Bytes of the answer's body.
        is_answered: The whole answer is there.
        closes: The server will close the connection after this answer.
        sent_s: `time.monotonic()` when the request began to leave.
        idle_since_s: When the last answer was complete.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        # 115 (in progress) is how this begins; what comes of it shows when the request is sent.
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
        """Start the next request."""
        self._prepare(request)
        self.sent_s = time.monotonic()
        self.send()

    def send(self) -> None:
        """Send what the kernel takes."""
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
        """Read what is there.

        Raises:
            ConnectionError: The connection ended before the answer did, or the answer is none.
        """
        try:
            count = self.socket.recv_into(buffer)
        except BlockingIOError:
            return
        if count == 0:
            raise ConnectionError("the server closed the connection")
        if self._missing_bytes < 0:
            self._head += buffer[:count]
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            self._read_head(self._head[:end])
            body = self._head[end + 4 :]
            self._missing_bytes = self.length - len(body)
        else:
            body = buffer[:count]
            self._missing_bytes -= count
        if self.status != 200 and len(self._text) < _MAX_TEXT_BYTES:
            self._text += body
        self.is_answered = self._missing_bytes <= 0

    def _read_head(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        try:
            self.status = int(lines[0].split(b" ", 2)[1])
            headers = dict(line.lower().split(b":", 1) for line in lines[1:])
            self.length = int(headers[b"content-length"])
        except (IndexError, ValueError, KeyError) as error:
            raise ConnectionError(f"not an answer with a length: {head[:200]!r}") from error
        self.closes = self.closes or headers.get(b"connection", b"").strip() == b"close"

    def elapsed_ms(self) -> float:
        """Milliseconds since the request began to leave."""
        return 1e3 * (time.monotonic() - self.sent_s)

    def retry_after_ms(self) -> float | None:
        """Read `retry_after_ms` of a problem; None where the answer has none."""
        try:
            value = json.loads(self._text).get("retry_after_ms")
        except (ValueError, AttributeError):
            return None
        return None if value is None else float(value)
