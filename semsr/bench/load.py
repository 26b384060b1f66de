"""A closed-loop HTTP load on raw sockets: the client's own cost must not hide the server's.

Runs as a process of its own (`python -m semsr.bench.load`), one thread, many connections, each
sending its next request when the last answer is complete. Answers are read into one reused buffer
and counted; status and length of every answer are checked, the bytes are not. What counts is cut
at answers (`Window`), so that a service of a few answers a second is measured as well as a fast
one. With the last answer of the window it hangs up; `semsr.bench.idle` sees when the service has
done what it had begun.
"""

import json
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

RECEIVE_BYTES = 1 << 20
_MAX_HEAD_BYTES = 65536
# For the answers that a window still wants after its length.
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class LoadResult:
    """What one load measured.

    Attributes:
        requests: Complete answers with status 200 and the expected length.
        errors: Other answers, and connections that broke.
        seconds: Length of the counted part.
        latencies_ms: Of the good answers, ascending; those to the first request of a connection
            are left out, since that met a shorter queue.
    """

    requests: int
    errors: int
    seconds: float
    latencies_ms: list[float]

    @property
    def per_second(self) -> float:
        """Good answers per second."""
        return self.requests / self.seconds

    def percentile_ms(self, share: float) -> float:
        """Latency below which a share (0 to 1) of the requests lies; NaN without requests."""
        if not self.latencies_ms:
            return float("nan")
        return self.latencies_ms[
            min(len(self.latencies_ms) - 1, int(share * len(self.latencies_ms)))
        ]


class Window:
    """The part of a load that counts: it begins with an answer and ends with one.

    It begins with the first answer after the warm-up, which does not count, and ends with the first
    one after its length that makes it a whole number of answers for each connection. So neither the
    wait for the first answers counts nor what is under way at the end, and a service that answers
    in batches is cut at the same place of a batch at both ends: a closed loop sees the same order
    of answers again after as many as it has connections.
    """

    def __init__(self, *, connections: int, seconds: float, warm_up_s: float, now_s: float) -> None:
        """Wait for the warm-up to pass.

        Args:
            connections: Requests under way at any time.
            seconds: Shortest length.
            warm_up_s: Before it begins.
            now_s: Start of the load, of any clock.
        """
        self._connections = connections
        self._shortest_s = seconds
        self._warm_s = now_s + warm_up_s
        self._began_s: float | None = None
        self._last_s = now_s
        self._good = self._errors = 0
        self._latencies_s: list[float] = []
        self.is_over = False

    def add(self, now_s: float, *, latency_s: float | None, is_good: bool) -> None:
        """Take an answer, or that a connection broke in place of one.

        Args:
            now_s: When it was complete.
            latency_s: Since its request began; None if that is not to be counted.
            is_good: Whether it is the right one.
        """
        if self._began_s is None:
            if now_s >= self._warm_s:
                self._began_s = now_s
            return
        if self.is_over:
            return
        self._last_s = now_s
        self._good += is_good
        self._errors += not is_good
        if is_good and latency_s is not None:
            self._latencies_s.append(latency_s)
        is_whole = (self._good + self._errors) % self._connections == 0
        self.is_over = is_whole and now_s >= self._began_s + self._shortest_s

    def result(self, now_s: float) -> LoadResult:
        """What it saw, also where it is not over: up to the last answer, or now without any."""
        end_s = self._last_s if self._good + self._errors else now_s
        began_s = self._warm_s if self._began_s is None else self._began_s
        latencies_ms = sorted(1e3 * latency_s for latency_s in self._latencies_s)
        return LoadResult(self._good, self._errors, end_s - began_s, latencies_ms)


class _Connection:
    """One keep-alive connection: sends a request, reads an answer, again and again."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.request = request
        self.socket = socket.create_connection(address, timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.sent_bytes = 0
        self.head = b""
        self.missing_bytes = -1
        self.status = 0
        self.length = 0
        self.started_s = 0.0
        self.num_answers = 0

    def begin(self) -> None:
        """Start the next request."""
        self.sent_bytes = 0
        self.head = b""
        self.missing_bytes = -1
        self.started_s = time.perf_counter()
        self.send()

    def send(self) -> bool:
        """Send what the kernel takes; true when the request is out."""
        while self.sent_bytes < len(self.request):
            try:
                self.sent_bytes += self.socket.send(memoryview(self.request)[self.sent_bytes :])
            except BlockingIOError:
                return False
        return True

    def receive(self, buffer: memoryview) -> bool:
        """Read what is there; true when the answer is complete."""
        count = self.socket.recv_into(buffer)
        if count == 0:
            raise ConnectionError("the server closed the connection")
        if self.missing_bytes < 0:
            self.head += bytes(buffer[: min(count, _MAX_HEAD_BYTES)])
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return False
            lines = self.head[:end].split(b"\r\n")
            self.status = int(lines[0].split(b" ", 2)[1])
            self.length = next(
                int(line.split(b":", 1)[1])
                for line in lines
                if line.lower().startswith(b"content-length:")
            )
            received = len(self.head) - end - 4 + max(0, count - _MAX_HEAD_BYTES)
            self.missing_bytes = self.length - received
        else:
            self.missing_bytes -= count
        return self.missing_bytes <= 0


def closed_loop(
    address: tuple[str, int],
    request: bytes,
    *,
    connections: int,
    seconds: float,
    warm_up_s: float,
    expected_bytes: int,
) -> LoadResult:
    """Keep `connections` requests under way until a `Window` after the warm-up is over.

    Args:
        address: Host and port.
        request: The whole HTTP/1.1 request, head and body.
        connections: Requests under way at any time.
        seconds: Shortest length of the window; a service of a few answers a second makes it longer.
        warm_up_s: Length before it.
        expected_bytes: Body length of a good answer.

    Raises:
        OSError: The server cannot be reached.
    """
    selector = selectors.DefaultSelector()
    buffer = memoryview(bytearray(RECEIVE_BYTES))
    both = selectors.EVENT_READ | selectors.EVENT_WRITE

    def connect() -> None:
        connection = _Connection(address, request)
        selector.register(connection.socket, both, connection)
        connection.begin()

    start_s = time.perf_counter()
    window = Window(connections=connections, seconds=seconds, warm_up_s=warm_up_s, now_s=start_s)
    for _ in range(connections):
        connect()
    give_up_s = start_s + warm_up_s + seconds + _PATIENCE_S
    while not window.is_over and time.perf_counter() < give_up_s:
        for key, events in selector.select(timeout=1.0):
            connection: _Connection = key.data
            try:
                if events & selectors.EVENT_WRITE and connection.send():
                    selector.modify(connection.socket, selectors.EVENT_READ, connection)
                if not events & selectors.EVENT_READ or not connection.receive(buffer):
                    continue
            except ConnectionError:
                window.add(time.perf_counter(), latency_s=None, is_good=False)
                selector.unregister(connection.socket)
                connection.socket.close()
                connect()
                continue
            now_s = time.perf_counter()
            connection.num_answers += 1
            window.add(
                now_s,
                latency_s=now_s - connection.started_s if connection.num_answers > 1 else None,
                is_good=connection.status == 200 and connection.length == expected_bytes,
            )
            if window.is_over:
                break  # nothing more is asked for
            connection.begin()
            if connection.sent_bytes < len(connection.request):
                selector.modify(connection.socket, both, connection)
    for key in list(selector.get_map().values()):
        key.data.socket.close()
    return window.result(time.perf_counter())


def run_load(
    address: tuple[str, int],
    *,
    path: str,
    body: bytes,
    headers: dict[str, str],
    connections: int,
    seconds: float,
    expected_bytes: int,
    warm_up_s: float = 1.0,
) -> LoadResult:
    """Run `closed_loop` in a process of its own, so that it shares no interpreter with anything."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {address[0]}:{address[1]}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    request = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
    options = {
        "address": address,
        "connections": connections,
        "seconds": seconds,
        "warm_up_s": warm_up_s,
        "expected_bytes": expected_bytes,
    }
    child = subprocess.run(
        [sys.executable, "-m", "semsr.bench.load", json.dumps(options)],
        input=request,
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + warm_up_s + 2 * _PATIENCE_S,
    )
    return LoadResult(**json.loads(child.stdout))


def _main() -> None:
    options = json.loads(sys.argv[1])
    options["address"] = tuple(options["address"])
    result = closed_loop(request=sys.stdin.buffer.read(), **options)
    sys.stdout.write(json.dumps(asdict(result)))


if __name__ == "__main__":
    _main()
