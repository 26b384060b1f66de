"""SIGINT and SIGTERM while the service starts: it ends with 0 and leaves nothing behind."""

import collections
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = {"SEMSR_BUNDLE": str(ROOT / "bundles" / "default")}
TINY = {"SEMSR_BUNDLE": str(ROOT / "tests" / "data" / "tiny_bundle")}
POOL = {"SEMSR_MODE": "pool", "SEMSR_FRONT_ENDS": "2"}
SETTINGS = {
    "single, identity": {**SHIPPED, "SEMSR_ENGINE": "identity"},
    "single, onnx": {**SHIPPED, "SEMSR_ENGINE": "onnx"},
    # Measures the engines where several are installed, in a process of its own.
    "single, auto": {**SHIPPED, "SEMSR_ENGINE": "auto"},
    "pool, identity": {**SHIPPED, **POOL, "SEMSR_ENGINE": "identity"},
    "pool, onnx": {**SHIPPED, **POOL, "SEMSR_ENGINE": "onnx"},
}
STOPS = (signal.SIGINT, signal.SIGTERM)
# Starts that the slow test kills, over all of its settings.
NUM_STARTS = int(os.environ.get("TEST_KILLED_STARTS", "200"))
PATIENCE_S = 120.0


class Start:
    """A service that starts in a folder of its own, by which its processes are recognised."""

    def __init__(self, settings: Mapping[str, str], folder: Path, command: Sequence[str]) -> None:
        """Start it."""
        self.folder = folder
        folder.mkdir()
        self.log = folder / "log"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SEMSR_PORT": "0",
            "SEMSR_LOG_FORMAT": "json",
            "SEMSR_CACHE_DIR": str(folder / "cache"),
            **settings,
        }
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stderr=stream,
            )

    def has_handlers(self) -> bool:
        """Whether the service takes SIGTERM: Python alone, before it runs the service, does not."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [caught] = [line for line in status.splitlines() if line.startswith("SigCgt:")]
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def events(self) -> list[str]:
        """Events in the log so far."""
        whole = self.log.read_bytes().rpartition(b"\n")[0].splitlines()
        return [json.loads(line)["event"] for line in whole if line.startswith(b"{")]

    def relatives(self) -> list[int]:
        """Processes that live and were started by it, directly or not, and itself."""
        found: list[int] = []
        mark = f"SEMSR_CACHE_DIR={self.folder / 'cache'}".encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def drops(self, number: signal.Signals) -> bool:
        """Send a signal; whether the service serves in spite of it."""
        self.process.send_signal(number)
        deadline_s = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            if "serving" in self.events():
                return True
            assert time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.01)
        return False

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_so():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.002)

    def end(self, *signals: signal.Signals) -> int:
        """Send signals and wait for the end; nothing of it may be left. Returns the exit code."""
        for number in signals:
            if self.process.poll() is None:
                self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        deadline_s = time.monotonic() + PATIENCE_S
        while left := self.relatives():
            assert time.monotonic() < deadline_s, f"{left} are left of {self.folder}"
            time.sleep(0.01)
        assert [] == [path.name for path in self.folder.iterdir() if "core" in path.name]
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Start]]:
    """Start services; none outlives the test."""
    starts: list[Start] = []

    def begin(settings: Mapping[str, str], command: Sequence[str] = ("service",)) -> Start:
        starts.append(Start(settings, tmp_path / str(len(starts)), command))
        return starts[-1]

    yield begin
    for one in starts:
        for pid in one.relatives():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        one.process.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("settings", "moment", "stop"),
    [
        ("single, onnx", "handlers", signal.SIGINT),
        ("single, onnx", "starting", signal.SIGTERM),
        ("single, onnx", "loading", signal.SIGINT),
        ("single, onnx", "loading", signal.SIGTERM),
        ("pool, onnx", "loading", signal.SIGINT),
    ],
)
def test_a_signal_while_it_starts_ends_the_service_with_0(
    start: Callable[..., Start],
    settings: str,
    moment: str,
    stop: signal.Signals,
) -> None:
    """From its first statement on, also within the runtime; no process is left."""
    service = start(SETTINGS[settings])
    if moment == "handlers":
        service.until(service.has_handlers)
    else:
        service.until(lambda: moment in service.events())
    assert 0 == service.end(stop), service.log.read_text()
    assert "terminate called" not in service.log.read_text()
    assert "Traceback" not in service.log.read_text()


def test_the_command_line_stops_as_the_service_does(start: Callable[..., Start]) -> None:
    """Ctrl-C while `semsr serve` loads is a stop as asked, not 130 and no trace."""
    service = start(SETTINGS["single, onnx"], ("semsr.cli", "serve"))
    service.until(lambda: "loading" in service.events())
    assert 0 == service.end(signal.SIGINT), service.log.read_text()
    assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_starts_killed_at_random_moments_end_as_documented(
    start: Callable[..., Start], settings: str
) -> None:
    """Hundreds of them: 0, or what Python does before it runs the first line of the service."""
    chance = random.Random(settings)
    whole = start(SETTINGS[settings])
    began_s = time.monotonic()
    whole.until(lambda: "serving" in whole.events())
    load_s = time.monotonic() - began_s
    assert 0 == whole.end(signal.SIGINT)
    codes: collections.Counter[tuple[str, str, int]] = collections.Counter()
    for _ in range(max(1, NUM_STARTS // len(SETTINGS))):
        service = start(SETTINGS[settings])
        time.sleep(chance.uniform(0, load_s))
        stop = chance.choice(STOPS)
        had_handlers = service.has_handlers()
        if not had_handlers and stop == signal.SIGINT and service.drops(stop):
            # Some of CPython's C code clears any exception, a KeyboardInterrupt of its start too.
            codes["interpreter", "SIGINT dropped", service.end(stop)] += 1
            continue
        code = service.end(stop)
        codes["service" if had_handlers else "interpreter", stop.name, code] += 1
        text = service.log.read_text()
        assert "terminate called" not in text
        if had_handlers:
            assert 0 == code, text
            assert "Traceback" not in text
        else:
            # 1: SIGINT within the interpreter's own first imports.
            assert code in ({0, -stop, 1} if stop == signal.SIGINT else {0, -stop}), text
    sys.stderr.write(f"{settings}, {load_s:.1f} s to load: {dict(codes)}\n")


@pytest.mark.parametrize("mode", ["single", pytest.param("pool", marks=pytest.mark.slow)])
def test_of_two_servers_on_one_port_one_serves_and_one_says_why_not(
    start: Callable[..., Start], mode: str
) -> None:
    """Started at once: one is ready, the other one ends with 4 and `cannot_listen`."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    settings = {**TINY, "SEMSR_ENGINE": "identity", "SEMSR_PORT": port, "SEMSR_MODE": mode}
    pair = [start(settings), start(settings)]
    deadline_s = time.monotonic() + PATIENCE_S
    while all(service.process.poll() is None for service in pair):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    [loser] = [service for service in pair if service.process.poll() is not None]
    [winner] = [service for service in pair if service is not loser]
    assert 4 == loser.process.returncode
    assert "cannot_listen" in loser.events()
    winner.until(lambda: "serving" in winner.events())
    answer = httpx2.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=60)
    assert 200 == answer.status_code
    assert 0 == winner.end(signal.SIGINT)


@pytest.mark.slow
def test_a_stopped_process_of_a_killed_pool_gives_the_port_back(
    start: Callable[..., Start],
) -> None:
    """The kernel wakes what SIGSTOP holds when the supervisor dies, so that it notices."""
    service = start({**TINY, **POOL, "SEMSR_ENGINE": "identity"})
    service.until(lambda: "serving" in service.events())
    for pid in service.relatives():
        if pid != service.process.pid:
            os.kill(pid, signal.SIGSTOP)
    assert -signal.SIGKILL == service.end(signal.SIGKILL)
