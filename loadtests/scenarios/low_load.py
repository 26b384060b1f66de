"""One request at a time: what the service adds to the engine's own time for a tile.

Engine and service take turns of a few tiles, so that a machine that drifts does so for both.
"""

import contextlib
import select
import statistics
from pathlib import Path
from typing import Any

from loadtests.exchange import RECEIVE_BYTES, Exchange
from loadtests.machine import describe_machine
from loadtests.open_loop import http_request
from loadtests.outcomes import percentile
from loadtests.results import Column, Result
from loadtests.target import PATH, Target, running_service
from semsr.bench.engine_turns import EngineTurns
from semsr.bench.modes import service_modes

_TILES_OF_A_TURN = 5
_COLUMNS = [
    Column("mode", "Mode"),
    Column("engine", "Engine"),
    Column("engine_ms", "engine alone, p50 ms", 2),
    Column("service_ms", "service, p50 ms", 2),
    Column("service_p99_ms", "service, p99 ms", 2),
    Column("added_ms", "added at p50, ms", 2),
    Column("count", "Requests"),
]


def run(bundle: Path, *, turns: int) -> Result:
    """Measure the real model and the engine `identity` in every mode.

    Args:
        bundle: What is served.
        turns: Of each side, of five tiles each.
    """
    machine = describe_machine()
    rows: list[dict[str, Any]] = []
    for mode, settings in service_modes().items():
        rows.append(_measure(bundle, mode, settings, turns=turns))
        identity = {**settings, "SEMSR_ENGINE": "identity"}
        rows.append(_measure(bundle, mode, identity, turns=10 * turns))
    return Result("low-load", machine, {"bundle": bundle.name, "turns": turns}, _COLUMNS, rows)


def _measure(bundle: Path, mode: str, settings: dict[str, str], *, turns: int) -> dict[str, Any]:
    engine_ms: list[float] = []
    service_ms: list[float] = []
    with running_service(bundle, settings) as target:
        engine = target.engine()
        with contextlib.closing(_Client(target)) as client, EngineTurns(bundle, engine) as alone:
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
        self._request = http_request(PATH, target.tile.headers, target.tile.body)
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._answer_bytes = target.tile.answer_bytes

    def close(self) -> None:
        """Close the connection."""
        self._exchange.socket.close()

    def request_ms(self) -> float:
        """Send a tile and wait for the whole answer."""
        exchange = self._exchange
        exchange.begin(self._request)
        while not exchange.is_answered:
            writers = [] if exchange.is_sent else [exchange.socket]
            readable, writable, _ = select.select([exchange.socket], writers, [], 60.0)
            if not readable and not writable:
                raise TimeoutError("no answer within 60 s")
            if writable:
                exchange.send()
            if readable:
                exchange.receive(self._buffer)
        if exchange.status != 200 or exchange.length != self._answer_bytes:
            raise RuntimeError(f"answer {exchange.status} of {exchange.length} bytes")
        return exchange.elapsed_ms()
