"""The cost of metrics and audit: engine `identity` with recording, scrapes, or hashes on and off.

Two services run side by side and take turns under load, so that drift of the machine affects both.
Each turn is compared with the one next to it. The recording calls are also timed one by one, since
noise of the machine affects those times less.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from loadtests.machine import describe_machine
from loadtests.recording import FILE_VARIABLE
from loadtests.results import Column, Result
from loadtests.target import Target, running_service

_RECORDING_OFF = ("-m", "loadtests.recording", "off")
_RECORDING_TIMED = ("-m", "loadtests.recording", "timed")
_SETTINGS = {"SEMSR_ENGINE": "identity", "SEMSR_MODE": "single"}
_WARM_S = 2.0
_COLUMNS = [
    Column("what", "What"),
    Column("with", "tiles/s with"),
    Column("without", "tiles/s without"),
    Column("cost_percent", "cost, %: median", 2),
    Column("low_percent", "lower quartile", 2),
    Column("high_percent", "upper quartile", 2),
    Column("calls", "calls a request"),
    Column("microseconds", "µs a request"),
    Column("errors", "Errors"),
]


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn in seconds")
    parser.add_argument("--rounds", type=int, default=12, help="pairs of turns, at least two")
    parser.add_argument("--connections", type=int, default=16, help="requests in flight")


def run(options: argparse.Namespace) -> Result:
    """Measure with the bundle's tile."""
    bundle, seconds, rounds = options.bundle, options.seconds, options.rounds
    connections = options.connections
    machine = describe_machine()
    turns = _Turns(seconds=seconds, rounds=rounds, connections=connections)
    with (
        running_service(bundle, _SETTINGS) as recorded,
        running_service(bundle, _SETTINGS, command=_RECORDING_OFF) as unrecorded,
        running_service(bundle, {**_SETTINGS, "SEMSR_AUDIT": "true"}) as audited,
    ):
        turns.warm(recorded, unrecorded, audited)
        recording = turns.compare(
            "recording",
            lambda: turns.load(recorded),
            lambda: turns.load(unrecorded),
        )
        scrapes = turns.compare(
            "a scrape every second",
            lambda: turns.load_scraped(recorded),
            lambda: turns.load(recorded),
        )
        audit = turns.compare(
            "hashes in the log (SEMSR_AUDIT)",
            lambda: turns.load(audited),
            lambda: turns.load(recorded),
        )
    rows = [recording, scrapes, audit, _timed(bundle, turns, tiles_per_s=recording["with"])]
    settings = {
        "bundle": bundle.name,
        "seconds": seconds,
        "rounds": rounds,
        "connections": connections,
    }
    notes = [
        "Each turn against the one next to it; the order changes from round to round. Off means "
        "that each recording call is a call that does nothing. Timed: recording and looking up "
        "labels, summed over a run of their own, less what a call that does nothing shows; the "
        "cost is that time as a share of the time between two answers, as if nothing else ran."
    ]
    return Result("metrics-cost", machine, settings, _COLUMNS, rows, notes)


class _Turns:
    """Turns of load in pairs: with and without the feature that is measured."""

    def __init__(self, *, seconds: float, rounds: int, connections: int) -> None:
        self._seconds = seconds
        self._rounds = rounds
        self._connections = connections
        self._errors = 0

    def warm(self, *targets: Target) -> None:
        """Load each service for a moment."""
        for target in targets:
            target.closed_loop(connections=self._connections, seconds=_WARM_S)

    def load(self, target: Target) -> float:
        """Load a service for one turn; returns tiles a second."""
        result = target.closed_loop(connections=self._connections, seconds=self._seconds)
        self._errors += result.errors
        return result.per_second

    def load_scraped(self, target: Target) -> float:
        """Load a service for one turn while its metrics are scraped every second."""
        with _scraping(target):
            return self.load(target)

    def compare(
        self, what: str, with_it: Callable[[], float], without: Callable[[], float]
    ) -> dict[str, Any]:
        """Take the turns of both cases, and return the row that compares them."""
        self._errors = 0
        pairs: list[tuple[float, float]] = []
        for index in range(self._rounds):
            if index % 2:
                second = without()
                pairs.append((with_it(), second))
            else:
                pairs.append((with_it(), without()))
        costs = [100 * (1 - first / second) for first, second in pairs]
        low, middle, high = statistics.quantiles(costs, n=4)
        return {
            "what": what,
            "with": statistics.median(first for first, _ in pairs),
            "without": statistics.median(second for _, second in pairs),
            "cost_percent": middle,
            "low_percent": low,
            "high_percent": high,
            "errors": self._errors,
        }


@contextlib.contextmanager
def _scraping(target: Target) -> Iterator[None]:
    end = threading.Event()

    def scrape() -> None:
        with httpx2.Client(trust_env=False, timeout=30.0) as client:
            while not end.wait(1.0):
                client.get(f"{target.url}/metrics").raise_for_status()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _timed(bundle: Path, turns: _Turns, *, tiles_per_s: float) -> dict[str, Any]:
    """Time the recording calls of a run by themselves."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recorded.json"
        settings = {**_SETTINGS, FILE_VARIABLE: str(file)}
        with running_service(bundle, settings, command=_RECORDING_TIMED) as target:
            turns.load(target)
            count = _requests(target)
        recorded = json.loads(file.read_text(encoding="utf-8"))
    microseconds = recorded["nanoseconds"] / 1e3 / count
    return {
        "what": "recording, timed call by call",
        "with": tiles_per_s,
        "calls": recorded["calls"] / count,
        "microseconds": microseconds,
        "cost_percent": 100 * microseconds * tiles_per_s / 1e6,
    }


def _requests(target: Target) -> float:
    """Requests for tiles that a service has answered."""
    text = httpx2.get(f"{target.url}/metrics", trust_env=False, timeout=60.0).text
    name = 'semsr_requests_total{code="200",priority="online",route="/superresolve"}'
    [count] = [line.split()[-1] for line in text.splitlines() if line.startswith(name)]
    return float(count)
