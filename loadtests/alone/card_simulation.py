"""The simulation behind `loadtests.alone.cards`: engine processes and cards as events in time.

The scheduler of each engine process and the front ends' choice between them are the service's own
code. A card does one batch after the other, also for several engine processes; the part of a batch
that needs the host alone (copies, launches) overlaps with other batches.
"""

import functools
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from loadtests.alone.cards import CardLoad, CardOutcome, Fault
from loadtests.alone.schedule import TIMING_SPREAD
from semsr.progress import tracked
from service.batching.costs import BatchCosts
from service.batching.scheduler import Batch, Scheduler
from service.ground.priority import Priority
from service.pool.choice import expected_s

FAILED_CALL_S = 1e-3
"""Seconds of a call that fails: sooner than any batch, so that a faulty card seems fast."""

MAX_FAILED_BATCHES = 3
"""Failed batches in a row after which an engine process ends, as `service.pool.engine`."""


@dataclass(slots=True, eq=False)
class _Tile:
    arrived_s: float
    front: int
    is_retry: bool = False


@dataclass(eq=False)
class _Card:
    speed: float
    free_s: float = 0.0
    busy_s: float = 0.0
    is_faulty: bool = False
    done_s: list[float] = field(default_factory=list[float])


@dataclass(eq=False)
class _Engine:
    card: int
    per_tile_s: float
    scheduler: Scheduler[_Tile]
    free: int
    is_up: bool = True
    # Counts its processes: what an earlier one had in progress ends in nothing.
    epoch: int = 0
    failed_batches: int = 0
    reported_s: float = 0.0
    running: list[Batch[_Tile]] = field(default_factory=list[Batch[_Tile]])
    # Tiles in flight by front end.
    in_flight: Counter[int] = field(default_factory=Counter[int])

    def has_work(self) -> bool:
        return bool(self.running) or self.scheduler.num_waiting > 0


def simulate_cards(costs: Mapping[int, float], load: CardLoad) -> CardOutcome:
    """Run one load to its end.

    Args:
        costs: Seconds of a batch by its size, on a card of speed 1.
        load: Load to simulate.
    """
    return _CardSimulation(costs, load).run()


def bench_cards(costs: Mapping[int, float], loads: Sequence[CardLoad]) -> list[CardOutcome]:
    """Simulate every load; see `simulate_cards`."""
    return [simulate_cards(costs, load) for load in tracked(loads, "bench schedule", unit="load")]


class _CardSimulation:
    """Events in time: arrivals, ends of batches, faults."""

    def __init__(self, costs: Mapping[int, float], load: CardLoad) -> None:
        self.costs, self.load = costs, load
        self.true_costs = BatchCosts(costs)
        self.now_s = 0.0
        self.rng = np.random.default_rng(load.seed)
        self.order = itertools.count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.cards = [_Card(speed) for speed in load.speeds]
        self.engines = [
            _Engine(card, self._per_tile_s(card), self._scheduler(card), load.slots)
            for _ in range(load.per_card)
            for card in range(len(load.speeds))
        ]
        self.orphans: list[_Tile] = []
        self.latencies: list[float] = []
        self.sizes: list[int] = []
        self.refused = self.failed = self.retried = 0
        self.idle_s = 0.0

    def run(self) -> CardOutcome:
        load = self.load
        capacity = sum(1 / self._per_tile_s(card) for card in range(len(self.cards)))
        offered = self.rng.poisson(load.share * capacity * load.seconds)
        for arrival_s in np.sort(self.rng.uniform(0.0, load.seconds, offered)).tolist():
            self._at(arrival_s, self._arrive)
        if load.fault is not None:
            self._at(load.fault.at_s, self._begin_fault)
            self._at(load.fault.back_s, self._end_fault)
        while self.events:
            until_s, _, event = heapq.heappop(self.events)
            if self._is_one_idle():
                self.idle_s += max(0.0, min(until_s, load.seconds) - self.now_s)
            self.now_s = until_s
            event()
        latencies = np.array(self.latencies or [np.nan])
        return CardOutcome(
            load=load,
            offered=offered,
            refused=self.refused,
            failed=self.failed + len(self.orphans),
            retried=self.retried,
            p50_s=float(np.quantile(latencies, 0.5)),
            p99_s=float(np.quantile(latencies, 0.99)),
            tiles=[len(card.done_s) for card in self.cards],
            busy=[card.busy_s / load.seconds for card in self.cards],
            idle_share=self.idle_s / load.seconds,
            batch=float(np.mean(self.sizes or [np.nan])),
            done_s=[card.done_s for card in self.cards],
        )

    # --- front ends ---

    def _arrive(self) -> None:
        tile = _Tile(self.now_s, int(self.rng.integers(self.load.front_ends)))
        engine = self._choose(tile)
        if engine is None or engine.scheduler.refusal(
            1, Priority.ONLINE, deadline_s=None, now_s=self.now_s
        ):
            self.refused += 1
            return
        self._submit(engine, tile)

    def _choose(self, tile: _Tile, *, without: _Engine | None = None) -> _Engine | None:
        up = [engine for engine in self.engines if engine.is_up and engine is not without]
        return min(
            up,
            key=lambda engine: expected_s(
                reported_s=engine.reported_s,
                in_flight=engine.in_flight[tile.front],
                per_tile_s=engine.per_tile_s,
            ),
            default=None,
        )

    def _retry(self, tile: _Tile, *, without: _Engine) -> None:
        if tile.is_retry:
            self.failed += 1
            return
        tile.is_retry = True
        self.retried += 1
        engine = self._choose(tile, without=without)
        if engine is None:
            self.orphans.append(tile)
        else:
            self._submit(engine, tile)

    # --- engine processes ---

    def _submit(self, engine: _Engine, tile: _Tile) -> None:
        engine.in_flight[tile.front] += 1
        engine.scheduler.add(
            [tile], shape=(240, 240), priority=Priority.ONLINE, deadline_s=None, now_s=self.now_s
        )
        self._dispatch(engine)

    def _dispatch(self, engine: _Engine) -> None:
        while engine.free and (batch := engine.scheduler.next_batch(self.now_s)) is not None:
            engine.free -= 1
            engine.running.append(batch)
            end_s, is_good = self._use_card(self.cards[engine.card], len(batch.entries))
            finish = functools.partial(self._finish, engine, engine.epoch, batch, is_good=is_good)
            self._at(end_s, finish)
        self._report(engine)

    def _use_card(self, card: _Card, count: int) -> tuple[float, bool]:
        """Take the card for one batch; returns when the batch is done, and whether it is good."""
        if card.is_faulty:
            return self.now_s + FAILED_CALL_S, False
        seconds = self.true_costs.seconds(count) / card.speed
        seconds *= max(0.1, 1 + TIMING_SPREAD * self.rng.standard_normal())
        on_card_s = self.load.card_share * seconds
        card.free_s = max(self.now_s, card.free_s) + on_card_s
        card.busy_s += on_card_s if card.free_s <= self.load.seconds else 0.0
        return card.free_s + seconds - on_card_s, True

    def _finish(self, engine: _Engine, epoch: int, batch: Batch[_Tile], *, is_good: bool) -> None:
        if epoch != engine.epoch:
            return
        engine.free += 1
        engine.running.remove(batch)
        engine.scheduler.finished(batch, self.now_s, failed=not is_good)
        engine.failed_batches = 0 if is_good else engine.failed_batches + 1
        self.sizes.append(len(batch.entries))
        for entry in batch.entries:
            tile = entry.payload
            engine.in_flight[tile.front] -= 1
            if is_good:
                self.latencies.append(self.now_s - tile.arrived_s)
                self.cards[engine.card].done_s.append(self.now_s)
            else:
                self._retry(tile, without=engine)
        if engine.failed_batches == MAX_FAILED_BATCHES:
            self._end(engine)
        else:
            self._dispatch(engine)

    def _report(self, engine: _Engine) -> None:
        engine.reported_s = engine.scheduler.drain_s(Priority.ONLINE, self.now_s)

    # --- faults ---

    def _begin_fault(self) -> None:
        fault = self._fault()
        self.cards[fault.card].is_faulty = True
        if not fault.is_raising:
            for engine in self._on(fault.card):
                self._end(engine)

    def _end(self, engine: _Engine) -> None:
        """End an engine process; front ends submit its tiles once more."""
        engine.is_up = False
        engine.epoch += 1
        entries = [entry for batch in engine.running for entry in batch.entries]
        entries += engine.scheduler.take_all()
        engine.running.clear()
        engine.in_flight.clear()
        for entry in entries:
            self._retry(entry.payload, without=engine)

    def _end_fault(self) -> None:
        fault = self._fault()
        card = self.cards[fault.card]
        card.is_faulty, card.free_s = False, self.now_s
        for engine in self._on(fault.card):
            engine.scheduler = self._scheduler(engine.card)
            engine.is_up, engine.free, engine.failed_batches = True, self.load.slots, 0
            self._report(engine)
            orphans, self.orphans = self.orphans, []
            for tile in orphans:
                self._submit(engine, tile)

    def _fault(self) -> Fault:
        if self.load.fault is None:
            raise ValueError("the load has no fault; expected one for this event")
        return self.load.fault

    def _on(self, card: int) -> list[_Engine]:
        return [engine for engine in self.engines if engine.card == card]

    # --- the rest ---

    def _at(self, time_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (time_s, next(self.order), event))

    def _is_one_idle(self) -> bool:
        queues = any(engine.is_up and engine.scheduler.num_waiting for engine in self.engines)
        return queues and any(
            all(engine.is_up and not engine.has_work() for engine in self._on(card))
            for card in range(len(self.cards))
        )

    def _per_tile_s(self, card: int) -> float:
        best = min(seconds / size for size, seconds in self.costs.items())
        return best / self.load.speeds[card]

    def _scheduler(self, card: int) -> Scheduler[_Tile]:
        speed = self.load.speeds[card]
        costs = BatchCosts({size: seconds / speed for size, seconds in self.costs.items()})
        return Scheduler(
            costs, slots=self.load.slots, max_waiting=256, online_budget_s=self.load.budget_s
        )
