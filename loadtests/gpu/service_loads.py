"""A running service on a GPU, and the loads of it, as measurements of a report."""

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2
import numpy as np
import numpy.typing as npt

from loadtests import wrk
from loadtests.alone.engine import EngineTurn
from loadtests.closed_loop import LoadResult, run_closed_loop
from loadtests.exchange import TileRequest
from loadtests.gpu.batches import read_totals
from loadtests.gpu.card import CardWatch
from loadtests.gpu.floor import share_of_floor
from loadtests.gpu.report import Report
from loadtests.open_loop import OpenLoop
from loadtests.outcomes import errors, percentile
from loadtests.processes import front_end_pids
from loadtests.results import Row
from loadtests.target import Target

_FULL_BATCHES = 2.0
_OPEN_CONNECTIONS = 512


@dataclass(frozen=True)
class Layout:
    """One way to start the service.

    Attributes:
        mode: `pool` or `single`.
        engine: Engine name.
        front_ends: Number of front ends; None is the service's own choice.
    """

    mode: str
    engine: str
    front_ends: int | None = None

    def settings(self, options: argparse.Namespace) -> dict[str, str]:
        """Return its `SEMSR_…` variables."""
        found = {
            "SEMSR_MODE": self.mode,
            "SEMSR_ENGINE": self.engine,
            "SEMSR_PRECISION": options.precision,
            # `identity` has no model to compute.
            "SEMSR_DEVICE": "cpu" if self.engine == "identity" else options.device,
            # It would run tiles in the middle of a load.
            "SEMSR_SELF_TEST_MINUTES": "0",
        }
        if self.front_ends is not None:
            found["SEMSR_FRONT_ENDS"] = str(self.front_ends)
        return found

    def about(self) -> Row:
        """Return the columns that name it."""
        return {"mode": self.mode, "front_ends": self.front_ends, "engine": self.engine}


@dataclass
class Alone:
    """The engine alone.

    Attributes:
        turns: Turns by batch size.
        limits: Tiles a second that the rates of the card allow, by name.
    """

    turns: dict[int, EngineTurn] = field(default_factory=dict[int, EngineTurn])
    limits: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def best_per_s(self) -> float | None:
        """Largest rate in tiles per second; None if the engine could not be measured."""
        return max((turn.tiles_per_s for turn in self.turns.values()), default=None)

    @property
    def full_batch_ms(self) -> float | None:
        """Time of the largest measured batch with every slot in use."""
        return self.turns[max(self.turns)].ms if self.turns else None


@dataclass(frozen=True)
class Service:
    """A running service, and the loads of it.

    Attributes:
        options: Options of the run.
        report: Report of the run.
        layout: The way it was started.
        target: Address of the service.
        alone: Its engine alone.
    """

    options: argparse.Namespace
    report: Report
    layout: Layout
    target: Target
    alone: Alone

    def about(self) -> Row:
        """Return the columns that name the service, with its true number of front ends."""
        found = self.layout.about()
        if self.layout.mode == "pool":
            found["front_ends"] = len(front_end_pids(self.target.pid))
        return found

    def golden(self, tile: TileRequest, expected: npt.NDArray[np.uint8]) -> Row:
        """Send the golden tile; returns the largest difference of its answer in grey levels."""
        if self.layout.engine == "identity":
            return {}
        answer = httpx2.post(
            f"{self.target.url}{tile.path}",
            content=tile.body,
            headers=tile.headers,
            trust_env=False,
            timeout=60.0,
        ).raise_for_status()
        sr = np.frombuffer(answer.content, dtype=np.uint8).astype(np.int16)
        return {"golden_levels": int(np.abs(sr - expected.ravel()).max())}

    def closed(self, tile: TileRequest, body: str, connections: int, more: Row) -> float:
        """Keep connections busy; returns the tiles per second, 0 if it failed."""
        is_wrk = self.options.client == "wrk" or (
            self.options.client == "best" and wrk.is_installed()
        )
        rate = 0.0

        def load() -> Row:
            nonlocal rate
            result = self._many(tile, connections, is_wrk=is_wrk)
            rate = result.per_second
            return {
                "tiles_per_s": rate,
                "p50_ms": result.percentile_ms(0.5),
                "p99_ms": result.percentile_ms(0.99),
                "errors": result.errors,
                **self._share(rate),
            }

        about: Row = {
            **self.about(),
            "body": body,
            "load": f"{connections} connections",
            "client": "wrk" if is_wrk else "own",
        }
        self.report.measure(about, 2 * self.options.seconds, lambda: [self._watched(load) | more])
        return rate

    def _many(self, tile: TileRequest, connections: int, *, is_wrk: bool) -> LoadResult:
        clients = min(self.options.clients, connections)
        seconds = self.options.seconds
        if is_wrk:
            return wrk.run_wrk(
                self.target.address,
                tile,
                connections=connections,
                seconds=seconds,
                threads=clients,
            )
        return run_closed_loop(
            self.target.address, tile, connections=connections, seconds=seconds, processes=clients
        )

    def open(self, rate_per_s: float) -> None:
        """Send tiles at a rate, as a Poisson process, and judge the latency."""
        seconds = 2 * self.options.seconds

        def load() -> Row:
            stream = self.target.stream("open", rate_per_s=rate_per_s, arrivals="poisson")
            outcomes = (
                OpenLoop(
                    self.target.address,
                    [stream],
                    seconds=seconds,
                    connections=_OPEN_CONNECTIONS,
                    grace_s=10.0,
                    workers=self.options.clients,
                )
                .report()
                .outcomes
            )
            good_ms = [1e3 * outcome.latency_s for outcome in outcomes if outcome.is_good]
            late_ms = [1e3 * (outcome.sent_s - outcome.due_s) for outcome in outcomes]
            refused = sum(outcome.is_refused for outcome in outcomes)
            p99_ms = percentile(good_ms, 0.99)
            return {
                "tiles_per_s": len(good_ms) / seconds,
                "p50_ms": percentile(good_ms, 0.5),
                "p99_ms": p99_ms,
                "late_p99_ms": percentile(late_ms, 0.99),
                "errors": refused + sum(errors(outcomes).values()),
                **self._share(len(good_ms) / seconds),
                **judge(p99_ms, self.alone.full_batch_ms),
            }

        about: Row = {
            **self.about(),
            "body": "raw",
            "load": f"open loop, {rate_per_s:,.0f}/s offered",
            "client": "own",
        }
        self.report.measure(about, 2 * seconds, lambda: [self._watched(load)])

    def _watched(self, load: Callable[[], Row]) -> Row:
        """Run a load; adds the batches of the service, and the load of the card and the clients."""
        before = read_totals(self.target.url)
        began_s, core_began_s = time.monotonic(), _children_core_s()
        with CardWatch(self.options.device) as watch:
            row = load()
        cores = (_children_core_s() - core_began_s) / (time.monotonic() - began_s)
        batches = read_totals(self.target.url) - before
        return {**row, **batches.row(), **watch.row(), "client_cores": cores}

    def _share(self, rate: float) -> Row:
        """Relate a rate to the engine alone and to the limits of the card."""
        best = self.alone.best_per_s
        if self.layout.engine == "identity":
            return {}
        of_engine = {} if best is None else {"percent_of_engine": 100 * rate / best}
        return {**of_engine, **share_of_floor(rate, self.alone.limits)}


def judge(p99_ms: float, full_batch_ms: float | None) -> Row:
    """Compare a latency with the time of two full batches; empty without that time."""
    if full_batch_ms is None:
        return {}
    batches = p99_ms / full_batch_ms
    return {"p99_batches": batches, "is_within": "yes" if batches <= _FULL_BATCHES else "no"}


def _children_core_s() -> float:
    """Processor seconds of children that have ended: the clients, but not the running service."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
