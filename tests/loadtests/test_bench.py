"""The bench: its client counts right, and its rows hold the ratios that they promise."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bundle_format.bundle import load_bundle
from loadtests.alone.engine import EngineTurn, EngineTurns
from loadtests.clients import TileLoad
from loadtests.closed_loop import LoadResult, Window, closed_loop
from loadtests.exchange import Address, TileRequest
from loadtests.model_turns import ModelTurns
from loadtests.processes import BusyError, family_core_s, family_mib, wait_until_idle
from loadtests.rows import added_row, format_rows, load_row, ratio_row
from loadtests.target import Target
from loadtests.tile_request import PNG
from loadtests.wrk import parse_wrk
from semsr.cli import main

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"
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
    assert result.requests % 3 == 0
    assert result.errors == 0
    assert 0 < len(result.latencies_ms) <= result.requests
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


def batches_of(size: int, *, batch_s: float, connections: int) -> Iterator[tuple[float, float]]:
    """When a service that answers in batches does so, and how long each request took.

    Its connections send their next request at once; those that came first are served first.
    """
    now_s = 0.0
    sent_s = [0.0] * connections
    while True:
        now_s += batch_s
        for _ in range(size):
            yield now_s, now_s - sent_s.pop(0)
            sent_s.append(now_s)


@pytest.mark.parametrize("warm_up_s", [0.0, 0.3, 1.0, 1.4])
@pytest.mark.parametrize("seconds", [0.1, 3.0, 5.0])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_window_finds_the_rate_of_a_slow_service_that_answers_in_batches(
    size: int, seconds: float, warm_up_s: float
) -> None:
    """Exactly, wherever its ends would fall: neither the first wait nor half a batch counts."""
    window = Window(connections=16, seconds=seconds, warm_up_s=warm_up_s, now_s=0.0)
    # The service stood idle for 2 s before its first batch, such as to load something.
    for number, (now_s, latency_s) in enumerate(batches_of(size, batch_s=0.7, connections=16)):
        window.add(2 + now_s, latency_s=latency_s if number >= 16 else None, is_good=True)
        if window.is_over:
            break

    result = window.result(now_s=1e9)

    assert result.per_second == pytest.approx(size / 0.7)
    assert result.requests % 16 == 0
    assert result.seconds >= seconds
    assert result.latencies_ms == pytest.approx([16 / size * 700] * len(result.latencies_ms))
    assert result.errors == 0


def test_window_that_never_ends_tells_what_it_saw() -> None:
    """A service that stops to answer has the rate of what it answered before, or none."""
    window = Window(connections=4, seconds=10.0, warm_up_s=1.0, now_s=100.0)
    assert window.result(now_s=171.0).per_second == 0
    for second in range(1, 6):
        window.add(100.0 + second, latency_s=2.0, is_good=second != 3)

    result = window.result(now_s=171.0)

    assert not window.is_over
    assert (result.requests, result.errors, result.seconds) == (3, 1, 4.0)


def test_ratio_is_the_median_of_pairs_with_their_quartiles() -> None:
    """A drift that both sides share does not show, one odd turn hardly does."""
    drift = [5.0, 4.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    pairs = [(0.9 * per_s, per_s) for per_s in drift]

    steady = ratio_row(pairs, "engine")
    odd = ratio_row([(0.1, 5.0), *pairs[1:]], "engine")

    assert steady == {
        "ratio": pytest.approx(0.9),
        "ratio_low": pytest.approx(0.9),
        "ratio_high": pytest.approx(0.9),
        "turns": 7,
        "yardstick": "engine",
    }
    assert odd["ratio"] == pytest.approx(0.9)


def test_99th_percentile_wants_a_hundred_answers() -> None:
    """Of fewer it is their maximum, and left out."""
    few = LoadResult(60, 0, 12.0, [200.0] * 49)

    assert "p99_ms" not in load_row("service", [few, few])
    assert load_row("service", [few, few, few])["p99_ms"] == 200.0


def test_engine_between_its_turns_takes_no_processor() -> None:
    """It sleeps, and `wait_until_idle` sees so; its turns count calls and processor time."""
    with EngineTurns(TINY_BUNDLE, "onnx") as alone:
        one, four = alone.run(3), alone.run(2, batch=4)
        wait_until_idle(alone.pid)
        before_s = family_core_s(alone.pid)
        time.sleep(0.5)
        rested_s = family_core_s(alone.pid) - before_s

    assert rested_s <= 0.05
    assert (one.batch, len(one.times_ms), four.batch, len(four.times_ms)) == (1, 3, 4, 2)
    assert one.core_ms > 0
    assert (one + one).tiles_per_s == pytest.approx(one.tiles_per_s)
    assert len((one + one).times_ms) == 6


def test_memory_is_that_of_all_processes() -> None:
    """A pool's supervisor holds next to nothing itself."""
    child = "import sys; held = b'x' * (64 << 20); print('', flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        mib = family_mib(process.pid)
        process.communicate()

    assert 64 < mib < 200


def test_process_that_does_not_rest_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime whose threads spin must not take its neighbour's turn."""
    # A busy machine may leave it little of a core.
    monkeypatch.setattr("loadtests.processes._IDLE_SHARE", 0.02)
    monkeypatch.setattr("loadtests.processes._LOOK_S", 0.5)
    code = "print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        try:
            with pytest.raises(BusyError, match="expected it to be idle"):
                wait_until_idle(busy.pid, timeout_s=0.3)
        finally:
            busy.kill()


LUCKY = 50.0


class DriftingMachine:
    """One whose speed changes with every turn of a service, and that begins with a lucky moment.

    Attributes:
        speed: Single tiles a second of its engine alone, now.
        asked: Who has had a turn, in order.
    """

    def __init__(self) -> None:
        self._speeds = iter([9.0, 1.0, 8.0, 9.0, 3.0, 7.0, 6.0, 8.0, 2.0])
        self.speed = LUCKY
        self.asked: list[str] = []

    def drift(self) -> None:
        """Become another one."""
        self.speed = next(self._speeds)


class DriftingEngine(EngineTurns):
    """An engine for which four tiles in a call take as long as two calls of one."""

    def __init__(self, machine: DriftingMachine) -> None:
        self._machine = machine

    def run(
        self,
        calls: int,
        *,
        seconds: float = 0.0,
        batch: int = 1,
        callers: int = 1,
        registered: bool = False,
    ) -> EngineTurn:
        """A turn at the speed of the moment; luck ends with the third look at full batches."""
        self._machine.asked.append(f"engine {batch}")
        if self._machine.speed == LUCKY and self._machine.asked.count("engine 4") > 3:
            self._machine.drift()
        call_ms = 1e3 / self._machine.speed * (2 if batch == 4 else batch)
        return EngineTurn(batch, [call_ms] * calls, core_ms=100.0)


class DriftingLoad(TileLoad):
    """A service that does 90 % of what its engine could do in the same moments."""

    machine: DriftingMachine

    def many(self, address: Address, tile: TileRequest) -> LoadResult:
        """16 tiles, half of them before the machine drifts."""
        self.machine.asked.append("png" if tile.headers["Content-Type"] == PNG else "raw")
        before_s = 8 / (0.9 * 2 * self.machine.speed)
        self.machine.drift()
        return LoadResult(16, 0, before_s + 8 / (0.9 * 2 * self.machine.speed), [100.0] * 16)

    def one_by_one(self, address: Address) -> LoadResult:
        """One at a time."""
        self.machine.asked.append("one")
        return LoadResult(4, 0, 1.0, [300.0] * 4)


def test_each_turn_of_the_service_is_compared_with_those_of_the_engine_around_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the drift of a machine nor the luck of the first look is in the ratio."""
    monkeypatch.setattr("loadtests.model_turns.wait_until_idle", lambda _: None)
    monkeypatch.setattr("loadtests.model_turns.png_core_s", lambda *_: 0.005)
    monkeypatch.setattr("loadtests.model_turns.available_cpus", lambda: 1)
    png = TileRequest("/", b"", {"Content-Type": PNG}, 1)
    monkeypatch.setattr("loadtests.model_turns.png_request", lambda *_: png)
    machine = DriftingMachine()
    load = DriftingLoad(load_bundle(TINY_BUNDLE), 16, 2.0)
    object.__setattr__(load, "machine", machine)
    servers = {"single": Target("http://127.0.0.1:1", ("127.0.0.1", 1), 1, load.raw)}
    turns = ModelTurns(load, DriftingEngine(machine), servers, lambda: None)
    machine.asked.clear()

    for number in range(4):
        turns.take_round(is_reversed=bool(number % 2))

    rows = {row["name"]: row for row in turns.rows("onnx")}
    raw, png = rows["service, 16 connections"], rows["service, 16 connections, PNG"]
    there, back = ["engine 1", "one", "raw", "engine 4"], ["png", "engine 4"]
    assert machine.asked[:6] == [*there, *back]
    assert machine.asked[6:12] == [*back, "raw", "engine 4", "engine 1", "one"]
    assert raw["yardstick"] == "engine alone, batch 4"
    assert (raw["ratio_low"], raw["ratio"], raw["ratio_high"]) == pytest.approx((0.9, 0.9, 0.9))
    assert rows["engine alone, batch 4, first look"]["tiles_per_s"] == pytest.approx(100.0)
    assert rows["engine alone, batch 4"]["tiles_per_s"] < 20
    # One core gives 1 / (100 + 5 ms), which is less than the engine alone most of the time.
    assert rows["engine and PNG codec, summed cores"]["tiles_per_s"] == pytest.approx(1e3 / 105)
    assert png["ratio_high"] > 0.9


def test_bench_prints_every_ratio_without_nginx(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nginx is not installed the bench says so and measures the rest."""
    monkeypatch.setattr("loadtests.nginx_turns.nginx_path", lambda: None)
    monkeypatch.setenv("SEMSR_ENGINE", "onnx")
    monkeypatch.setattr("loadtests.scenarios.throughput.ROUNDS", 2)

    assert main([*BENCH, "--seconds", "0.6", "--json"]) == 0

    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    looks = {f"engine alone, batch {size}, first look" for size in (1, 2, 4)}
    assert looks <= set(rows)
    [best] = {name for name in rows if name.startswith("engine alone")} - looks
    for name, yardstick in (
        ("service, 4 connections", best),
        ("service, 4 connections, PNG", "engine and PNG codec, summed cores"),
    ):
        assert rows[name]["yardstick"] == yardstick
        assert rows[name]["errors"] == 0
        assert rows[name]["ratio"] > 0
        assert rows[name]["ratio_low"] <= rows[name]["ratio"] <= rows[name]["ratio_high"]
        assert rows[name]["turns"] == 2
    assert rows["service, 1 connection"]["p50_ms"] > 0
    assert rows["service, memory at the end"]["mib"] > 10
    assert any("no nginx here" in name for name in rows)


@pytest.mark.requires_program("nginx")
def test_bench_compares_with_nginx_handing_out_the_same_bytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nginx answers a POST with a file of the answer's size, without errors."""
    monkeypatch.setenv("SEMSR_ENGINE", "onnx")
    monkeypatch.setattr("loadtests.scenarios.throughput.ROUNDS", 2)
    try:
        assert main([*BENCH, "--seconds", "0.6"]) == 0
    except ZeroDivisionError:  # the machine stood still in that moment
        assert main([*BENCH, "--seconds", "20"]) == 0
    table = capsys.readouterr().out
    assert ") of: nginx, the same bytes" in table
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


@pytest.mark.parametrize(
    ("differences_ms", "words"),
    [
        (
            [-9.0, 12.0, -3.0, 4.0],
            "engine 100.0 ms a tile, overhead within noise (quartiles -7.5 to +10.0 ms)",
        ),
        ([2.0, 3.0, 4.0, 3.0], "engine 100.0 ms a tile, overhead +3.0 ms (+2.2 to +3.8)"),
    ],
)
def test_an_overhead_smaller_than_its_spread_is_not_shown_as_a_figure(
    differences_ms: list[float], words: str
) -> None:
    """The median of the turns' differences counts where it is more than their spread."""
    added = added_row([(100.0 + difference, 100.0) for difference in differences_ms])
    row = {"name": "service, 1 connection", "p50_ms": 100.0, "engine_tile_ms": 100.0, **added}

    assert words in format_rows([row])


def test_bench_says_in_a_pipe_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    """The first line comes before anything is measured, and names the number of loads."""
    assert main(["bench", "schedule", "--cost-ms", "1=10", "--load", "0.5", "--json"]) == 0
    lines = capsys.readouterr().err.splitlines()

    assert lines[0] == "bench schedule: 2 loads"
    assert lines[-1].startswith("bench schedule: done, 2 of 2 loads after ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "0"], "--seconds is 0; expected more than 0"),
        (["scan", "--lot", "nowhere"], "--lot is nowhere, which is not a folder"),
        (["schedule", "--cost-ms", "4=720"], "--cost-ms needs the cost of one tile"),
        (["schedule", "--cost-ms", "x"], "--cost-ms is 'x'; expected one such as 4=720"),
        (["schedule", "--cost-ms", "1=1", "--cards", "1", "0"], "--cards is 0; expected more"),
        (
            ["schedule", "--cost-ms", "1=1", "--cards", "1", "--card-share", "2"],
            "--card-share is 2; expected at most 1",
        ),
        (
            ["schedule", "--cost-ms", "1=1", "--cards", "1", "--per-card", "0"],
            "--per-card is 0; expected more than 0",
        ),
        (
            ["schedule", "--cost-ms", "1=1", "--plot", "x.png"],
            "--plot needs the package matplotlib",
        ),
        (["engine"], "the machine's peak (left out by --no-peak) needs the package torch"),
    ],
)
def test_wrong_arguments_are_answered_before_anything_is_measured(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line and the exit code of wrong use; the packages of training are not installed here."""
    monkeypatch.setattr("loadtests.command_options.importlib.util.find_spec", lambda _: None)

    assert main(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err
