"""The bench: its client counts right, and its rows hold the ratios that they promise."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from semsr.bench.load import LoadResult, closed_loop
from semsr.bench.wrk import parse_wrk
from semsr.cli import main

TINY_BUNDLE = Path(__file__).parent / "data" / "tiny_bundle"
BENCH = ["bench", "--bundle", str(TINY_BUNDLE), "--connections", "4"]
REQUEST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"


@contextmanager
def scripted_server(answer: Callable[[int], bytes]) -> Iterator[tuple[str, int]]:
    """A server that answers the n-th request of each connection with `answer(n)`, b"" hangs up."""

    def serve(connection: socket.socket) -> None:
        # The client closes in the middle of an answer when its time is over.
        with connection, suppress(OSError):
            for number in range(1_000_000):
                received = b""
                while len(received) < len(REQUEST):
                    chunk = connection.recv(4096)
                    if not chunk:
                        return
                    received += chunk
                assert received == REQUEST
                if not answer(number):
                    return
                connection.sendall(answer(number))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def answer_of(size: int, status: str = "200 OK") -> bytes:
    """A whole HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size


def enough(load: Callable[[float], LoadResult]) -> LoadResult:
    """Load for a moment, and for longer where the machine stood still in it."""
    for seconds in (0.5, 5.0):
        result = load(seconds)
        if result.requests + result.errors > 8:
            return result
    return load(50.0)


def test_client_counts_good_answers_and_their_latencies() -> None:
    """Answers larger than the client's buffer are read whole, on several connections."""
    with scripted_server(lambda _: answer_of(3_000_000)) as address:
        result = enough(
            lambda seconds: closed_loop(
                address,
                REQUEST,
                connections=3,
                seconds=seconds,
                warm_up_s=0.1,
                expected_bytes=3_000_000,
            )
        )
    assert result.requests > 3
    assert result.errors == 0
    assert len(result.latencies_ms) == result.requests
    assert result.latencies_ms == sorted(result.latencies_ms)
    assert result.percentile_ms(0.5) <= result.percentile_ms(0.99)


@pytest.mark.parametrize("answer", [answer_of(10), answer_of(8, "503 Service Unavailable")])
def test_client_counts_wrong_answers_as_errors(answer: bytes) -> None:
    """Another length or status is never taken for throughput."""
    with scripted_server(lambda number: answer if number % 2 else answer_of(8)) as address:
        result = enough(
            lambda seconds: closed_loop(
                address, REQUEST, connections=1, seconds=seconds, warm_up_s=0.0, expected_bytes=8
            )
        )
    assert result.errors > 0
    assert abs(result.requests - result.errors) <= 1


def test_client_counts_a_broken_connection_and_goes_on() -> None:
    """A server that hangs up costs an error, not the run; a new connection goes on."""
    with scripted_server(lambda number: b"" if number else answer_of(8)) as address:
        result = enough(
            lambda seconds: closed_loop(
                address, REQUEST, connections=1, seconds=seconds, warm_up_s=0.0, expected_bytes=8
            )
        )
    assert result.requests > 1
    assert abs(result.requests - result.errors) <= 1


def test_bench_prints_every_ratio_without_nginx(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nginx is not installed the bench says so and measures the rest."""
    monkeypatch.setattr("semsr.bench.runs.nginx_path", lambda: None)
    monkeypatch.setenv("SEMSR_ENGINE", "onnx")
    monkeypatch.setattr("semsr.bench.runs.ROUNDS", 1)

    def bench(seconds: str) -> dict[str, Any]:
        assert main([*BENCH, "--seconds", seconds, "--json"]) == 0
        return {row["name"]: row for row in json.loads(capsys.readouterr().out)}

    rows = bench("0.3")
    one, many = rows["service, 1 connection"], rows["service, 4 connections"]
    if not (one["p50_ms"] > 0 and many["ratio"] > 0):
        rows = bench("30")  # the machine stood still in that moment
    assert {name for name in rows if name.startswith("engine alone")} == {
        "engine alone, batch 1",
        "engine alone, batch 2",
        "engine alone, batch 4",
    }
    throughput = rows["service, 4 connections"]
    assert throughput["errors"] == 0
    assert 0 < throughput["ratio"]
    assert rows["service, 1 connection"]["p50_ms"] > 0
    assert rows["service, resident memory"]["mib"] > 10
    assert any("no nginx here" in name for name in rows)


@pytest.mark.requires_program("nginx")
def test_bench_compares_with_nginx_handing_out_the_same_bytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nginx answers a POST with a file of the answer's size, without errors."""
    monkeypatch.setenv("SEMSR_ENGINE", "onnx")
    monkeypatch.setattr("semsr.bench.runs.ROUNDS", 1)
    try:
        assert main([*BENCH, "--seconds", "0.3"]) == 0
    except ZeroDivisionError:  # the machine stood still in that moment
        assert main([*BENCH, "--seconds", "10"]) == 0
    table = capsys.readouterr().out
    assert "% of: nginx, the same bytes" in table
    assert "ERRORS" not in table


WRK_REPORT = """Running 6s test @ http://127.0.0.1:8000/superresolve
  1 threads and 16 connections
  Latency Distribution
     50%   18.04ms
     75%   20.00ms
     90%   25.00ms
     99%    1.20s
  5179 requests in 6.04s, 4.45GB read
  Socket errors: connect 0, read 3, write 0, timeout 1
  Non-2xx or 3xx responses: 79
Requests/sec:    857.94
"""


def test_report_of_wrk_is_read() -> None:
    """Counts, errors, seconds and both percentiles, whatever the unit."""
    result = parse_wrk(WRK_REPORT)
    assert (result.requests, result.errors, result.seconds) == (5100, 79 + 4, 6.04)
    assert result.percentile_ms(0.5) == 18.04
    assert result.percentile_ms(0.99) == 1200.0
    with pytest.raises(ValueError, match="not a report of wrk"):
        parse_wrk("unable to connect")
