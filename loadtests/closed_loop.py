"""A closed-loop HTTP load on raw sockets: the client's own cost must not hide the server's.

The client runs in a process of its own (`python -m loadtests.closed_loop`) with one thread. Each of
its connections sends the next request when the last answer is complete. Status and length of every
answer are checked, the bytes are not. The counted period begins and ends with an answer (`Window`),
so that slow services are measured as exactly as fast ones. After the last answer of the window the
client hangs up. `loadtests.processes.wait_until_idle` then waits until the service has finished the
batches in flight.
"""

import json
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.exchange import RECEIVE_BYTES, Address, Exchange, TileRequest
from loadtests.outcomes import percentile

_CONNECT_TIMEOUT_S = 30.0
# Time for the processes of a load to start.
_START_S = 0.5
# Longest wait for the answers that a window still lacks after its length.
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class LoadResult:
    """Result of one load.

    Attributes:
        requests: Number of complete answers with status 200 and the expected length.
        errors: Number of other answers, and of connections that broke.
        seconds: Length of the counted part.
        latencies_ms: Latencies of the good answers, ascending; those of the first request of each
            connection are left out, because it met a shorter queue.
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
        """Latency that a share (0 to 1) of the requests do not exceed; NaN without requests."""
        return percentile(self.latencies_ms, share)


class Window:
    """The counted part of a load: it begins with an answer and ends with one.

    It begins with the first answer after the warm-up, which does not count. It ends after its
    length, as soon as the number of its answers is a multiple of the connections. So neither the
    wait for the first answers nor the requests in flight at the end count. A closed loop sees the
    same order of answers again after as many answers as connections. A service that answers in
    batches is thus cut at the same place of a batch at both ends.
    """

    def __init__(self, *, connections: int, seconds: float, warm_up_s: float, now_s: float) -> None:
        """Wait for the warm-up to pass.

        Args:
            connections: Number of requests in flight at any time.
            seconds: Shortest length.
            warm_up_s: Length before it begins.
            now_s: Start of the load, by any clock.
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
        """Take an answer, or a broken connection in place of one.

        Args:
            now_s: Time when it was complete.
            latency_s: Time since its request began; None if it is not to be counted.
            is_good: Whether status and length are right.
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
        """Return the result up to the last answer, or up to `now_s` if there is none."""
        end_s = self._last_s if self._good + self._errors else now_s
        began_s = self._warm_s if self._began_s is None else self._began_s
        latencies_ms = sorted(1e3 * latency_s for latency_s in self._latencies_s)
        return LoadResult(self._good, self._errors, end_s - began_s, latencies_ms)


def closed_loop(
    address: Address,
    request: bytes,
    *,
    connections: int,
    seconds: float,
    warm_up_s: float,
    expected_bytes: int,
) -> LoadResult:
    """Keep `connections` requests in flight until a `Window` after the warm-up is over.

    Args:
        address: Host and port.
        request: Whole HTTP/1.1 request, head and body.
        connections: Number of requests in flight at any time.
        seconds: Shortest length of the window; a service of a few answers a second makes it longer.
        warm_up_s: Length before it.
        expected_bytes: Body length of a good answer.

    Raises:
        OSError: The server cannot be reached.
    """
    socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S).close()
    selector = selectors.DefaultSelector()
    buffer = memoryview(bytearray(RECEIVE_BYTES))
    both = selectors.EVENT_READ | selectors.EVENT_WRITE

    def connect() -> None:
        exchange = Exchange(address)
        selector.register(exchange.socket, both, exchange)
        exchange.begin(request)

    start_s = time.monotonic()
    window = Window(connections=connections, seconds=seconds, warm_up_s=warm_up_s, now_s=start_s)
    for _ in range(connections):
        connect()
    give_up_s = start_s + warm_up_s + seconds + _PATIENCE_S
    while not window.is_over and time.monotonic() < give_up_s:
        for key, events in selector.select(timeout=1.0):
            exchange: Exchange = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    exchange.send()
                    if exchange.is_sent:
                        selector.modify(exchange.socket, selectors.EVENT_READ, exchange)
                if events & selectors.EVENT_READ:
                    exchange.receive(buffer)
            except ConnectionError:
                window.add(time.monotonic(), latency_s=None, is_good=False)
                selector.unregister(exchange.socket)
                exchange.socket.close()
                connect()
                continue
            if not exchange.is_answered:
                continue
            now_s = time.monotonic()
            window.add(
                now_s,
                latency_s=now_s - exchange.sent_s if exchange.idle_since_s else None,
                is_good=exchange.status == 200 and exchange.length == expected_bytes,
            )
            if window.is_over:
                break  # no further request
            exchange.idle_since_s = now_s
            exchange.begin(request)
            if not exchange.is_sent:
                selector.modify(exchange.socket, both, exchange)
    for key in list(selector.get_map().values()):
        key.data.socket.close()
    return window.result(time.monotonic())


def run_closed_loop(
    address: Address,
    tile: TileRequest,
    *,
    connections: int,
    seconds: float,
    warm_up_s: float = 1.0,
    processes: int = 1,
) -> LoadResult:
    """Run `closed_loop` in processes of its own, so that it shares no interpreter with anything.

    Args:
        address: Host and port.
        tile: Request that is sent.
        connections: Number of requests in flight at any time, of all processes together.
        seconds: Shortest length of the window.
        warm_up_s: Length before it.
        processes: Number of processes that share the connections. One process receives about 4,000
            answers of 0.9 MB a second on a core of its own.
    """
    shares = [len(range(index, connections, processes)) for index in range(processes)]
    children: list[subprocess.Popen[bytes]] = []
    counts_from_s = time.monotonic() + _START_S + warm_up_s
    try:
        for share in filter(None, shares):
            options = {
                "address": address,
                "connections": share,
                "seconds": seconds,
                "counts_from_s": counts_from_s,
                "expected_bytes": tile.answer_bytes,
            }
            children.append(_start(options, tile.http()))
        limit_s = seconds + warm_up_s + 2 * _PATIENCE_S
        return combined([_result_of(child, limit_s) for child in children])
    finally:
        for child in children:
            child.kill()
            child.communicate()


def combined(results: Sequence[LoadResult]) -> LoadResult:
    """Return the sum of loads that ran at the same time; their rates are added.

    Args:
        results: Results, at least one.
    """
    if len(results) == 1:
        return results[0]
    requests = sum(result.requests for result in results)
    rate = sum(result.per_second for result in results)
    return LoadResult(
        requests=requests,
        errors=sum(result.errors for result in results),
        seconds=requests / rate if rate else max(result.seconds for result in results),
        latencies_ms=sorted(ms for result in results for ms in result.latencies_ms),
    )


def _start(options: dict[str, Any], request: bytes) -> subprocess.Popen[bytes]:
    with tempfile.TemporaryFile() as job:
        job.write(request)
        job.seek(0)
        return subprocess.Popen(
            [sys.executable, "-m", "loadtests.closed_loop", json.dumps(options)],
            stdin=job,
            stdout=subprocess.PIPE,
        )


def _result_of(child: subprocess.Popen[bytes], limit_s: float) -> LoadResult:
    stdout, _ = child.communicate(timeout=limit_s)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, child.args)
    return LoadResult(**json.loads(stdout))


def _main() -> None:
    options = json.loads(sys.argv[1])
    options["address"] = tuple(options["address"])
    # All processes of a load count from the same time, however long each took to start.
    options["warm_up_s"] = max(0.0, options.pop("counts_from_s") - time.monotonic())
    result = closed_loop(request=sys.stdin.buffer.read(), **options)
    sys.stdout.write(json.dumps(asdict(result)))


if __name__ == "__main__":
    _main()
