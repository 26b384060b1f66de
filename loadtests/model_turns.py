"""The service with its real model, in each mode, in short turns with its engine alone.

Each turn of the service under full load is compared with the engine's turns before and after it, so
that drift of the machine affects both. A turn of single requests has one engine turn before it.
"""

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engines.cpu import available_cpus
from engines.protocol import batch_buckets
from loadtests.alone.codec import png_core_s, png_tile
from loadtests.alone.engine import EngineTurn, EngineTurns
from loadtests.clients import TileLoad
from loadtests.closed_loop import LoadResult
from loadtests.processes import family_mib, wait_until_idle
from loadtests.results import Row
from loadtests.rows import added_row, load_row, mode_name, ratio_row
from loadtests.target import MODES, Target, running_service
from loadtests.tile_request import png_request
from service.hosting.loading import batch_limit
from service.settings import Settings

_CORES = "engine and PNG codec, summed cores"
_LOOKS = 2
_CODEC_S = 0.2


class _Pair(NamedTuple):
    """A turn of the service, and the engine's turns around or before it, combined."""

    load: LoadResult
    alone: EngineTurn


class _PngPair(NamedTuple):
    """A turn of the service with PNG in and out, the engine's turns, and the codec's core time."""

    load: LoadResult
    alone: EngineTurn
    codec_core_ms: float

    @property
    def allowed_per_s(self) -> float:
        """Tiles per second that the cores allow for engine and codec, at most the engine's rate."""
        core_ms = self.alone.core_ms + self.codec_core_ms
        return min(self.alone.tiles_per_s, 1e3 * available_cpus() / core_ms)


@dataclass(frozen=True)
class _Turns:
    """Turns of one mode."""

    one: list[_Pair] = field(default_factory=list)
    raw: list[_Pair] = field(default_factory=list)
    png: list[_PngPair] = field(default_factory=list)


def compare_with_engine(load: TileLoad, rounds: int, step: Callable[[], object]) -> list[Row]:
    """Compare every mode with the engine alone.

    Args:
        load: Load of the service in a turn.
        rounds: Turns of each measurement, at least two.
        step: Callback after each turn of the service.
    """
    path = load.bundle.path
    with contextlib.ExitStack() as stack:
        servers = {
            # The self-test would run tiles in another server's turn.
            mode: stack.enter_context(
                running_service(path, {**settings, "SEMSR_SELF_TEST_MINUTES": "0"})
            )
            for mode, settings in MODES.items()
        }
        engine, precision = next(iter(servers.values())).engine()
        alone = stack.enter_context(EngineTurns(path, engine, precision=precision))
        measurement = ModelTurns(load, alone, servers, step)
        for number in range(rounds):
            measurement.take_round(is_reversed=bool(number % 2))
        memory_mib = {mode: family_mib(server.pid) for mode, server in servers.items()}
    rows = measurement.rows(engine)
    rows += [
        {"name": f"{mode_name(mode)}, memory at the end", "engine": engine, "mib": mib}
        for mode, mib in memory_mib.items()
    ]
    return rows


class ModelTurns:
    """Turns of the engine and of the running services."""

    def __init__(
        self,
        load: TileLoad,
        alone: EngineTurns,
        servers: Mapping[str, Target],
        step: Callable[[], object],
    ) -> None:
        """Choose the engine's batch size, and take its first turn.

        Args:
            load: Load of the service in a turn.
            alone: Engine alone.
            servers: Running service of each mode.
            step: Callback after each turn of a service.
        """
        self._load = load
        self._alone = alone
        self._servers = servers
        self._step = step
        png = png_tile(load.bundle)
        self._pngs = {mode: png_request(png, server.url) for mode, server in servers.items()}
        limit = batch_limit(load.bundle, Settings())
        sizes = batch_buckets(limit)
        self._looks = _first_look(alone, sizes, seconds=load.seconds / 5)
        # Selection bias: the fastest look was also lucky, so the turns measure the baseline again.
        self._best = max(self._looks, key=lambda size: self._looks[size].tiles_per_s)
        self._single_tiles: list[EngineTurn] = []
        self._turns = {mode: _Turns() for mode in servers}
        self._batches: list[EngineTurn] = []
        self._take_engine_turn()

    def take_round(self, *, is_reversed: bool) -> None:
        """Take every measurement once, in the given or the reverse order."""
        order = [(mode, kind) for mode in self._servers for kind in ("one", "raw", "png")]
        for mode, kind in reversed(order) if is_reversed else order:
            if kind == "one":
                self._take_one_by_one(mode)
            else:
                self._take_many(mode, as_png=kind == "png")
            self._step()

    def _take_one_by_one(self, mode: str) -> None:
        calls = self._calls(1, self._load.seconds / 4)
        alone = self._alone.run(calls, batch=1)
        self._single_tiles.append(alone)
        server = self._servers[mode]
        load = self._load.one_by_one(server.address)
        self._turns[mode].one.append(_Pair(load, alone))
        wait_until_idle(server.pid)

    def _take_many(self, mode: str, *, as_png: bool) -> None:
        server = self._servers[mode]
        before = self._batches[-1]
        tile = self._pngs[mode] if as_png else self._load.raw
        load = self._load.many(server.address, tile)
        wait_until_idle(server.pid)
        self._take_engine_turn()
        alone = before + self._batches[-1]
        if as_png:
            codec_core_ms = 1e3 * png_core_s(self._load.bundle, _CODEC_S)
            self._turns[mode].png.append(_PngPair(load, alone, codec_core_ms))
        else:
            self._turns[mode].raw.append(_Pair(load, alone))

    def _take_engine_turn(self) -> None:
        # Half as long: two of them are compared with one turn of the service.
        calls = self._calls(self._best, self._load.seconds / 2)
        self._batches.append(self._alone.run(calls, batch=self._best))

    def _calls(self, batch: int, seconds: float) -> int:
        return _calls_within(seconds, statistics.median(self._looks[batch].times_ms))

    def rows(self, engine: str) -> list[Row]:
        """Return the rows of all turns."""
        best = f"engine alone, batch {self._best}"
        tile_ms = statistics.median(ms for turn in self._single_tiles for ms in turn.times_ms)
        pngs = [pair for turns in self._turns.values() for pair in turns.png]
        rows: list[Row] = [
            {
                "name": f"engine alone, batch {size}, first look",
                "engine": engine,
                "batch": size,
                "tiles_per_s": look.tiles_per_s,
            }
            for size, look in self._looks.items()
        ]
        rows += [
            {
                "name": best,
                "engine": engine,
                "batch": self._best,
                "tiles_per_s": statistics.median(turn.tiles_per_s for turn in self._batches),
            },
            {
                "name": _CORES,
                "engine": engine,
                "tiles_per_s": statistics.median(pair.allowed_per_s for pair in pngs),
                "codec_core_ms": statistics.median(pair.codec_core_ms for pair in pngs),
                "engine_core_ms": statistics.median(pair.alone.core_ms for pair in pngs),
            },
        ]
        for mode, turns in self._turns.items():
            name, many = mode_name(mode), f"{mode_name(mode)}, {self._load.connections} connections"
            one = load_row(f"{name}, 1 connection", [pair.load for pair in turns.one], engine)
            times_ms = [
                (pair.load.percentile_ms(0.5), statistics.median(pair.alone.times_ms))
                for pair in turns.one
            ]
            raw = [(pair.load.per_second, pair.alone.tiles_per_s) for pair in turns.raw]
            png = [(pair.load.per_second, pair.allowed_per_s) for pair in turns.png]
            rows += [
                one | {"engine_tile_ms": tile_ms} | added_row(times_ms),
                load_row(many, [pair.load for pair in turns.raw], engine) | ratio_row(raw, best),
                load_row(f"{many}, PNG", [pair.load for pair in turns.png], engine)
                | ratio_row(png, _CORES),
            ]
        return rows


def _first_look(
    alone: EngineTurns, sizes: Sequence[int], *, seconds: float
) -> dict[int, EngineTurn]:
    """Measure each batch size for a moment, one after the other, in several rounds.

    Args:
        alone: Engine alone.
        sizes: Tiles in a call.
        seconds: Time for each size, all looks together; at least two calls.
    """
    looks = {size: alone.run(1, batch=size) for size in sizes}
    calls = {
        size: _calls_within(seconds / _LOOKS, look.times_ms[0], at_least=1)
        for size, look in looks.items()
    }
    for _ in range(_LOOKS):
        for size in sizes:
            looks[size] += alone.run(calls[size], batch=size)
    return looks


def _calls_within(seconds: float, call_ms: float, *, at_least: int = 2) -> int:
    """Return the number of calls that take about `seconds`."""
    return max(at_least, round(1e3 * seconds / call_ms))
