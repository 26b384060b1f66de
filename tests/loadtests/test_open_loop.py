"""The open-loop generator against servers that stall, refuse, break and close."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from loadtests.exchange import http_request
from loadtests.open_loop import OpenLoop, Stream, main
from loadtests.outcomes import unserved

BODY = b"b" * 100_000
REQUEST = http_request("/x", {"X-Kind": "test"}, BODY)
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000


def refusal(retry_after_ms: float, *headers: str) -> bytes:
    """A 503 that names a time."""
    body = json.dumps({"retry_after_ms": retry_after_ms}).encode()
    lines = ["HTTP/1.1 503 Busy", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def server(answer: Callable[[int], bytes], *, reads_body: bool = True) -> Iterator[tuple[str, int]]:
    """Answers the n-th request of all with `answer(n)`; an empty answer hangs up."""
    numbers = iter(range(1_000_000))
    lock = threading.Lock()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError), connection.makefile("rb") as stream:
            while head := read_head(stream):
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                if reads_body:
                    stream.read(length)
                with lock:
                    number = next(numbers)
                text = answer(number)
                if not text:
                    return
                connection.sendall(text)
                if not reads_body:
                    stream.read(length)
                if b"Connection: close" in text:
                    return

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def read_head(stream: "socket.SocketIO | object") -> bytes:
    """Read up to the empty line; b"" at the end."""
    lines: list[bytes] = []
    while line := stream.readline():  # type: ignore[attr-defined]
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def stream(**options: object) -> Stream:
    """A stream of the test's request."""
    return Stream(name="test", request=REQUEST, expected_bytes=300_000, **options)  # type: ignore[arg-type]


def test_every_request_is_sent_and_answered() -> None:
    """Two processes share the arrivals, none is lost or sent twice."""
    with server(lambda _: GOOD) as address:
        report = OpenLoop(address, [stream(rate_per_s=50.0)], seconds=1.0, workers=2).report()
    assert sorted(outcome.number for outcome in report.outcomes) == list(range(50))
    assert {outcome.label for outcome in report.outcomes} == {"200"}
    assert all(o.due_s <= o.sent_s <= o.done_s for o in report.outcomes)


def test_a_server_that_stalls_is_seen_by_all_that_were_due() -> None:
    """No coordinated omission: with one connection, a stall delays every later request."""
    stall_s = 0.05
    pause = threading.Event()

    def slow(_: int) -> bytes:
        pause.wait(stall_s)
        return GOOD

    with server(slow) as address:
        report = OpenLoop(address, [stream(rate_per_s=100.0)], seconds=0.3, connections=1).report()
    latencies_s = [outcome.latency_s for outcome in report.outcomes]
    assert len(latencies_s) == 30
    # The n-th was due after n * 10 ms and done after (n + 1) * 50 ms at the earliest.
    assert latencies_s[-1] > 20 * stall_s
    assert latencies_s[-1] > latencies_s[0]


def test_refusals_name_their_time_and_saturating_streams_come_again() -> None:
    """Every number is served in the end; each was refused once first."""
    seen = threading.Lock()
    answers = iter([refusal(20.0)] * 4 + [GOOD] * 1_000_000)

    def answer(_: int) -> bytes:
        with seen:
            return next(answers)

    with server(answer) as address:
        report = OpenLoop(address, [stream(concurrency=4)], seconds=0.5).report()
    refused = [outcome for outcome in report.outcomes if outcome.is_refused]
    assert [outcome.retry_after_ms for outcome in refused] == [20.0] * 4
    assert unserved(report.outcomes) == set()
    again = {o.number: o.due_s for o in report.outcomes if o.is_good}
    assert all(again[o.number] - o.done_s > 0.0199 for o in refused)


def test_refusal_before_the_body_is_read_leaves_a_usable_connection() -> None:
    """The answer counts when it is there; the rest of the body still goes out."""
    with server(lambda n: refusal(5.0) if n % 2 else GOOD, reads_body=False) as address:
        report = OpenLoop(address, [stream(rate_per_s=40.0)], seconds=0.5, connections=1).report()
    assert [outcome.label for outcome in report.outcomes].count("503") == 10
    assert {outcome.label for outcome in report.outcomes} == {"200", "503"}


def test_closed_connections_are_replaced() -> None:
    """`Connection: close` costs a new connection, no request."""
    with server(lambda _: refusal(5.0, "Connection: close")) as address:
        report = OpenLoop(address, [stream(rate_per_s=40.0)], seconds=0.5, connections=2).report()
    assert [outcome.label for outcome in report.outcomes] == ["503"] * 20


def test_broken_wrong_and_missing_answers_are_told_apart() -> None:
    """Each request has exactly one outcome, whatever became of it."""
    expected = ["200", "200", "broken", "unanswered", "wrong length"]
    # A second is too short for good answers where the machine stands still.
    assert labels_of_five(timeout_s=1.0) == expected or labels_of_five(timeout_s=15.0) == expected


def labels_of_five(*, timeout_s: float) -> list[str]:
    """What becomes of five requests, of which three are not answered well."""
    silent = threading.Event()

    def answer(number: int) -> bytes:
        if number == 0:
            return b""
        if number == 1:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
        if number == 2:
            silent.wait(5 * timeout_s)
        return GOOD

    with server(answer) as address:
        report = OpenLoop(
            address,
            [stream(rate_per_s=10.0)],
            seconds=0.5,
            timeout_s=timeout_s,
            grace_s=10.0 + timeout_s,
        ).report()
        silent.set()
    return sorted(outcome.label for outcome in report.outcomes)


def test_nobody_there_is_an_outcome_too() -> None:
    """A service that is down breaks every request, and the generator ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    report = OpenLoop(address, [stream(rate_per_s=10.0)], seconds=0.5).report()
    assert [outcome.label for outcome in report.outcomes] == ["broken"] * 5


def test_command_line_prints_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """The answer's length follows tile and scale."""
    tile = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024
    with server(lambda _: tile) as (host, port):
        arguments = [f"http://{host}:{port}", "--rate", "20", "--seconds", "0.5", "--tile", "8"]
        assert main([*arguments, "--arrivals", "constant", "--json"]) == 0
    [summary] = json.loads(capsys.readouterr().out)
    assert summary["answers"] == {"200": 10}
    assert summary["p50_ms"] <= summary["p99_ms"]
