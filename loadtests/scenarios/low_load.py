"""One request at a time: the time that the service adds to the engine's own for a tile.

Engine and service take turns of a few tiles, so that drift of the machine affects both.
"""

import argparse
import contextlib
import statistics
from pathlib import Path

from loadtests.alone.engine import EngineTurns
from loadtests.exchange import RECEIVE_BYTES, Exchange
from loadtests.machine import describe_machine
from loadtests.outcomes import percentile
from loadtests.results import Column, Result, Row
from loadtests.target import MODES, Target, running_service

_TILES_OF_A_TURN = 5
_TIMEOUT_S = 60.0
_COLUMNS = [
    Column("mode", "Mode"),
    Column("engine", "Engine"),
    Column("engine_ms", "engine alone, p50 ms", 2),
    Column("service_ms", "service, p50 ms", 2),
    Column("service_p99_ms", "service, p99 ms", 2),
    Column("added_ms", "added at p50, ms", 2),
    Column("count", "Requests"),
]


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--turns", type=int, default=40, help="turns of five tiles each")


def run(options: argparse.Namespace) -> Result:
    """Measure the real model and the engine `identity` in every mode."""
    bundle, turns = options.bundle, options.turns
    machine = describe_machine()
    rows: list[Row] = []
    for mode, settings in MODES.items():
        rows.append(_measure(bundle, mode, settings, turns=turns))
        identity = {**settings, "SEMSR_ENGINE": "identity"}
        rows.append(_measure(bundle, mode, identity, turns=10 * turns))
    return Result("low-load", machine, {"bundle": bundle.name, "turns": turns}, _COLUMNS, rows)


def _measure(bundle: Path, mode: str, settings: dict[str, str], *, turns: int) -> Row:
    engine_ms: list[float] = []
    service_ms: list[float] = []
    with running_service(bundle, settings) as target:
        engine, precision = target.engine()
        with (
            contextlib.closing(_Client(target)) as client,
            EngineTurns(bundle, engine, precision=precision) as alone,
        ):
            for _ in range(turns):
                # The first of a turn finds cold caches, on either side.
                engine_ms += alone.run(_TILES_OF_A_TURN).times_ms
                service_ms += [client.request_ms() for _ in range(1 + _TILES_OF_A_TURN)][1:]
    return {
        "mode": mode,
        "engine": engine,
        "engine_ms": statistics.median(engine_ms),
        "service_ms": statistics.median(service_ms),
        "service_p99_ms": percentile(service_ms, 0.99),
        "added_ms": statistics.median(service_ms) - statistics.median(engine_ms),
        "count": len(service_ms),
    }


class _Client:
    """One connection, one request at a time."""

    def __init__(self, target: Target) -> None:
        self._exchange = Exchange(target.address)
        self._request = target.tile.http()
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._answer_bytes = target.tile.answer_bytes

    def close(self) -> None:
        """Close the connection."""
        self._exchange.socket.close()

    def request_ms(self) -> float:
        """Send a tile and wait for the whole answer."""
        exchange = self._exchange
        seconds = exchange.round_trip_s(self._request, self._buffer, timeout_s=_TIMEOUT_S)
        if exchange.status != 200 or exchange.length != self._answer_bytes:
            raise RuntimeError(f"answer {exchange.status} of {exchange.length} bytes")
        return 1e3 * seconds
