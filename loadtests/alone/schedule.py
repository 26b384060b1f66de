"""The scheduler on a simulated clock: latency against load, with and without nightly tiles.

Batch times from a table replace the engine, so a minute of a loaded GPU is simulated in about a
second. The same seed gives the same table. Arrivals are Poisson; each request is one tile.
"""

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.results import Column, Row, format_table, write_figure
from semsr.progress import tracked
from service.batching.costs import BatchCosts
from service.batching.scheduler import Batch, Scheduler
from service.ground.priority import Priority

_COLUMNS = [
    Column("load", "load", 2),
    Column("nightly", "nightly"),
    Column("offered", "offered"),
    Column("refused", "refused"),
    Column("p50_ms", "p50 ms", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("tiles_per_s", "tiles/s", 2),
    Column("nightly_per_s", "nightly/s", 2),
    Column("batch", "batch", 2),
    Column("retry_ratio", "retry", 2),
]

NIGHTLY_WAITING = 64
"""Nightly tiles that always wait where the nightly class saturates the engine."""

TIMING_SPREAD = 0.05
"""Relative deviation of a batch's true time from its cost."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """One simulated load.

    Attributes:
        share: Online arrivals as a share of what the engine can do.
        is_nightly: Whether the nightly class saturates the engine as well.
        seconds: Simulated time.
        slots: Batches that the engine runs at once.
        budget_s: Online budget.
        max_waiting: Places of the queue.
        seed: Seed of arrivals and times.
    """

    share: float
    is_nightly: bool
    seconds: float = 120.0
    slots: int = 1
    budget_s: float = 1.0
    max_waiting: int = 256
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of one load.

    Attributes:
        load: The load.
        offered: Number of online tiles that arrived.
        refused: Number of online tiles that were not admitted.
        p50_s: Median time from arrival to answer of the admitted ones.
        p99_s: 99th percentile of that time.
        tiles_per_s: Online tiles answered in a second.
        nightly_per_s: Nightly tiles answered in a second.
        batch: Mean batch size.
        retry_ratio: Median ratio of the retry time that a refusal named to the true time until the
            tiles waiting at the refusal were done; NaN without refusals.
    """

    load: Load
    offered: int
    refused: int
    p50_s: float
    p99_s: float
    tiles_per_s: float
    nightly_per_s: float
    batch: float
    retry_ratio: float


def simulate(costs: Mapping[int, float], load: Load) -> Outcome:
    """Run one load to its end.

    Args:
        costs: True seconds by batch size; the scheduler starts with the same and learns.
        load: Load to simulate.
    """
    return _Simulation(costs, load).run()


class _Simulation:
    """Events in time: arrivals, and batches that end."""

    def __init__(self, costs: Mapping[int, float], load: Load) -> None:
        self.load = load
        self.true_costs = BatchCosts(costs)
        self.scheduler: Scheduler[float] = Scheduler(
            BatchCosts(costs),
            slots=load.slots,
            max_waiting=load.max_waiting,
            online_budget_s=load.budget_s,
        )
        self.rng = np.random.default_rng(load.seed)
        self.free = load.slots
        self.ends: list[tuple[float, int, Batch[float]]] = []
        self.order = itertools.count()
        self.latencies: list[float] = []
        self.num_nightly = 0
        self.sizes: list[int] = []
        # Refusals: time, promised seconds, and the tiles that waited then.
        self.promises: list[tuple[float, float, set[int]]] = []
        self.kept: list[float] = []

    def run(self) -> Outcome:
        load = self.load
        capacity = load.slots / min(
            self.true_costs.seconds(size) / size for size in self.true_costs.buckets
        )
        # Poisson: their number, and independent times.
        count = self.rng.poisson(load.share * capacity * load.seconds)
        arrivals = np.sort(self.rng.uniform(0.0, load.seconds, count))
        refused = 0
        for arrival_s in arrivals.tolist():
            self._advance(arrival_s)
            refusal = self.scheduler.refusal(1, Priority.ONLINE, deadline_s=None, now_s=arrival_s)
            if refusal is None:
                self._add(arrival_s, Priority.ONLINE)
            else:
                refused += 1
                waiting = {id(e) for e in self._online_waiting()}
                self.promises.append((arrival_s, refusal.retry_after_s, waiting))
            self._dispatch(arrival_s)
        self._advance(np.inf)
        latencies = np.array(self.latencies or [np.nan])
        return Outcome(
            load=load,
            offered=len(arrivals),
            refused=refused,
            p50_s=float(np.quantile(latencies, 0.5)),
            p99_s=float(np.quantile(latencies, 0.99)),
            tiles_per_s=len(self.latencies) / load.seconds,
            nightly_per_s=self.num_nightly / load.seconds,
            batch=float(np.mean(self.sizes or [np.nan])),
            retry_ratio=float(np.median(self.kept)) if self.kept else float("nan"),
        )

    def _online_waiting(self) -> list[Any]:
        running = [entry for _, _, batch in self.ends for entry in batch.entries]
        return [*self.scheduler.entries(Priority.ONLINE), *running]

    def _add(self, now_s: float, priority: Priority) -> None:
        self.scheduler.add(
            [now_s], shape=(240, 240), priority=priority, deadline_s=None, now_s=now_s
        )

    def _advance(self, until_s: float) -> None:
        """Finish the batches that end before a time; each frees a slot, which is used at once."""
        while self.ends and self.ends[0][0] <= until_s:
            end_s, _, batch = heapq.heappop(self.ends)
            self.free += 1
            self.scheduler.finished(batch, end_s)
            for entry in batch.entries:
                if entry.priority is Priority.ONLINE:
                    self.latencies.append(end_s - entry.payload)
                else:
                    self.num_nightly += end_s <= self.load.seconds
            self._keep_promises(end_s, batch)
            self._dispatch(end_s)

    def _keep_promises(self, end_s: float, batch: Batch[float]) -> None:
        done = {id(entry) for entry in batch.entries}
        open_promises = []
        for refused_s, promised_s, waiting in self.promises:
            waiting -= done
            if waiting:
                open_promises.append((refused_s, promised_s, waiting))
            else:
                self.kept.append(promised_s / max(end_s - refused_s, 1e-9))
        self.promises = open_promises

    def _dispatch(self, now_s: float) -> None:
        if self.load.is_nightly and now_s < self.load.seconds:
            while self.scheduler.waiting(Priority.NIGHTLY) < NIGHTLY_WAITING:
                self._add(now_s, Priority.NIGHTLY)
        while self.free and (batch := self.scheduler.next_batch(now_s)) is not None:
            self.free -= 1
            self.sizes.append(len(batch.entries))
            seconds = self.true_costs.seconds(len(batch.entries))
            seconds *= max(0.1, 1 + TIMING_SPREAD * self.rng.standard_normal())
            heapq.heappush(self.ends, (now_s + seconds, next(self.order), batch))


def bench_schedule(
    costs: Mapping[int, float],
    *,
    shares: Sequence[float],
    seconds: float,
    slots: int,
    budget_s: float,
    seed: int = 0,
) -> list[Outcome]:
    """Simulate every load without and with the nightly class."""
    loads = [
        Load(
            share=share,
            is_nightly=is_nightly,
            seconds=seconds,
            slots=slots,
            budget_s=budget_s,
            seed=seed,
        )
        for share in shares
        for is_nightly in (False, True)
    ]
    return [simulate(costs, load) for load in tracked(loads, "bench schedule", unit="load")]


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """Return the outcomes as rows with plain keys."""
    return [
        {
            "load": outcome.load.share,
            "nightly": outcome.load.is_nightly,
            "offered": outcome.offered,
            "refused": outcome.refused,
            "p50_ms": round(1e3 * outcome.p50_s, 2),
            "p99_ms": round(1e3 * outcome.p99_s, 2),
            "tiles_per_s": round(outcome.tiles_per_s, 2),
            "nightly_per_s": round(outcome.nightly_per_s, 2),
            "batch": round(outcome.batch, 2),
            "retry_ratio": round(outcome.retry_ratio, 2),
        }
        for outcome in outcomes
    ]


def format_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Write the outcomes as a table for people."""
    shown = [{**row, "nightly": "yes" if row["nightly"] else "no"} for row in rows(outcomes)]
    note = "retry: promised over true time until what waited was done, median of refusals"
    return f"{format_table(_COLUMNS, shown)}\n{note}"


def draw_outcomes(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw p50 and p99 over the load, without and with nightly tiles, to a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for is_nightly, colour in ((False, "tab:blue"), (True, "tab:orange")):
        chosen = [outcome for outcome in outcomes if outcome.load.is_nightly is is_nightly]
        loads = [outcome.load.share for outcome in chosen]
        label = "with nightly" if is_nightly else "online alone"
        axes.plot(loads, [1e3 * o.p99_s for o in chosen], "-o", color=colour, label=f"p99 {label}")
        axes.plot(loads, [1e3 * o.p50_s for o in chosen], ":o", color=colour, label=f"p50 {label}")
    axes.set_xlabel("online load (share of what the engine can do)")
    axes.set_ylabel("latency, ms")
    axes.set_yscale("log")
    axes.legend()
    write_figure(figure, path)
