"""The scheduler's rules on a clock of our own, and what they lead to under load."""

import math
from typing import ClassVar

import numpy as np
import pytest

from loadtests.alone.schedule import Load, simulate
from service.batching.costs import BatchCosts
from service.batching.scheduler import Batch, Scheduler
from service.ground.priority import Priority

SHAPE = (240, 240)
GPU = {1: 1.0, 2: 1.1, 4: 1.5, 8: 2.4}
"""Seconds by batch: an engine that gains by batching. Large, so that times are easy to read."""

CPU = {1: 1.0, 2: 2.0, 4: 4.0}
"""An engine that gains nothing."""


def scheduler(costs: dict[int, float], **changes: float) -> Scheduler[str]:
    """An empty scheduler with a budget of 20 s."""
    options = {"slots": 1, "max_waiting": 100, "online_budget_s": 20.0, **changes}
    return Scheduler(
        BatchCosts(costs),
        slots=int(options["slots"]),
        max_waiting=int(options["max_waiting"]),
        online_budget_s=options["online_budget_s"],
    )


def add(
    to: Scheduler[str],
    names: str,
    *,
    priority: Priority = Priority.ONLINE,
    deadline_s: float | None = None,
    now_s: float = 0.0,
    shape: tuple[int, int] = SHAPE,
) -> None:
    """Queue one tile for each letter, each a request of its own."""
    for name in names:
        to.add([name], shape=shape, priority=priority, deadline_s=deadline_s, now_s=now_s)


def names_of(batch: Batch[str] | None) -> str:
    """The tiles of a batch as letters, in order."""
    return "" if batch is None else "".join(entry.payload for entry in batch.entries)


class TestCosts:
    """Which batch comes first."""

    @pytest.mark.parametrize(("waiting", "expected"), [(1, 1), (2, 2), (4, 4), (8, 8), (40, 8)])
    def test_an_engine_that_gains_takes_large_batches(self, waiting: int, expected: int):
        """Each further tile of a batch costs a fraction of the first."""
        assert BatchCosts(GPU).choose(waiting) == expected

    @pytest.mark.parametrize("waiting", [1, 2, 3, 4, 9])
    def test_an_engine_that_does_not_gain_takes_one_at_a_time(self, waiting: int):
        """The first tile is done four times as early, the last one no later."""
        assert BatchCosts(CPU).choose(waiting) == 1

    def test_a_bucket_is_filled_up_where_that_is_sooner(self):
        """Seven tiles: 2.4 s as one padded batch of eight, 1.5 + 1.1 + 1.0 s without padding."""
        assert BatchCosts(GPU).choose(7) == 8

    @pytest.mark.parametrize(("at_most_s", "expected"), [(10.0, 8), (2.0, 4), (1.05, 1), (0.1, 1)])
    def test_a_batch_can_be_bounded_in_time(self, at_most_s: float, expected: int):
        """One tile is always allowed, or nothing would ever run."""
        assert BatchCosts(GPU).choose(40, at_most_s=at_most_s) == expected

    def test_clearing_time_is_that_of_the_batches(self):
        """Exact for a few batches ahead, at the best rate beyond."""
        costs = BatchCosts(GPU)
        assert costs.clear_s(0) == 0.0
        assert costs.clear_s(8) == pytest.approx(2.4)
        assert costs.clear_s(12) == pytest.approx(3.9)
        assert costs.clear_s(800) == pytest.approx(240.0)

    @pytest.mark.parametrize("pace", [0.95, 1.08])
    def test_clearing_time_follows_a_change_too_small_for_new_plans(self, pace: float):
        """A promise that is a tenth too short for every tile is one that is not kept."""
        costs = BatchCosts(CPU)
        for _ in range(50):
            costs.observe(1, pace)
        assert costs.clear_s(3) == pytest.approx(3 * pace, rel=1e-3)
        assert costs.clear_s(100) == pytest.approx(100 * pace, rel=1e-3)

    def test_an_engine_faster_than_the_hand_over_takes_large_batches(self):
        """Ten microseconds a tile, half a millisecond a batch: four at once."""
        fast = {size: 1e-5 * size for size in (1, 2, 4)}
        assert BatchCosts(fast).choose(8) == 1
        assert BatchCosts(fast, overhead_s=5e-4).choose(8) == 4
        assert BatchCosts(CPU, overhead_s=5e-4).choose(8) == 1

    def test_costs_follow_what_batches_take(self):
        """A GPU that has become half as fast is planned with after some batches."""
        costs = BatchCosts(CPU)
        for _ in range(50):
            costs.observe(1, 3.0)
        assert costs.seconds(1) == pytest.approx(3.0, rel=0.01)
        # Now two at once take less than two one by one.
        assert costs.choose(2) == 2

    @pytest.mark.parametrize(
        ("truth", "best"), [(CPU, 1), ({1: 1.0, 2: 1.5, 4: 4.0}, 2), ({1: 1.0, 2: 1.6, 4: 2.4}, 4)]
    )
    def test_a_size_that_was_measured_on_a_busy_machine_gets_another_chance(
        self, truth: dict[int, float], best: int
    ):
        """A wrong figure of the warm-up does not decide for long, for smaller sizes or larger."""
        costs = BatchCosts({size: s * (1.4 if size == best else 1) for size, s in truth.items()})
        assert best != costs.choose(20)
        sizes: list[int] = []
        for _ in range(500):
            sizes.append(costs.choose(20))
            costs.observe(sizes[-1], truth[sizes[-1]])
        assert 90 <= sizes[-100:].count(best)

    def test_trying_a_size_costs_little(self):
        """One batch of 32, and never a size that is far worse."""
        costs = BatchCosts(GPU)
        sizes: list[int] = []
        for _ in range(330):
            sizes.append(costs.choose(40))
            costs.observe(sizes[-1], GPU[sizes[-1]])
        assert 9 <= sizes.count(4) <= 11
        assert 330 == sizes.count(4) + sizes.count(8)

    def test_a_larger_size_is_not_tried_where_nobody_waits_behind_it(self):
        """Its first tiles would wait longer than they have to."""
        costs = BatchCosts(CPU)
        for _ in range(100):
            costs.observe(1, 1.0)
        assert 1 == costs.choose(3)
        assert 2 == costs.choose(4)
        assert 1 == costs.choose(40, at_most_s=1.5)

    @pytest.mark.parametrize("bad", [{}, {2: 1.0}, {1: 0.0}, {0: 1.0, 1: 1.0}])
    def test_unusable_costs_are_refused(self, bad: dict[int, float]):
        """The message shows them."""
        with pytest.raises(ValueError, match="costs need positive seconds"):
            BatchCosts(bad)


class TestOrder:
    """Which tiles come first."""

    def test_the_tile_that_is_due_first_goes_first(self):
        """Whenever it came; equals in the order in which they came."""
        queue = scheduler(CPU)
        add(queue, "a", deadline_s=9.0)
        add(queue, "bc", deadline_s=5.0)
        add(queue, "d")
        assert [names_of(queue.next_batch(0.0)) for _ in range(5)] == ["b", "c", "a", "d", ""]

    def test_online_goes_before_nightly(self):
        """However long the nightly tile has waited."""
        queue = scheduler(CPU)
        add(queue, "n", priority=Priority.NIGHTLY)
        add(queue, "o", now_s=3.0)
        assert [names_of(queue.next_batch(3.0)) for _ in range(2)] == ["o", "n"]

    def test_nightly_fills_the_empty_places(self):
        """Seven online tiles run as eight; the eighth costs nothing."""
        queue = scheduler(GPU)
        add(queue, "opqrstu")
        add(queue, "nm", priority=Priority.NIGHTLY)
        batch = queue.next_batch(0.0)
        assert names_of(batch) == "opqrstun"
        assert batch is not None
        assert not batch.is_nightly

    def test_nightly_does_not_make_an_online_batch_larger(self):
        """One online tile alone runs alone: a second would cost it a tenth."""
        queue = scheduler(GPU)
        add(queue, "o")
        add(queue, "nm", priority=Priority.NIGHTLY)
        assert names_of(queue.next_batch(0.0)) == "o"

    def test_a_nightly_batch_takes_at_most_a_quarter_of_the_budget(self):
        """A budget of 6 s allows 1.5 s: four tiles; an online tile that comes waits no longer."""
        queue = scheduler(GPU, online_budget_s=6.0)
        add(queue, "nmklijhg", priority=Priority.NIGHTLY)
        assert names_of(queue.next_batch(0.0)) == "nmkl"

    def test_one_of_several_slots_is_kept_free_of_nightly_tiles(self):
        """Until the nightly batch is done, or an online tile takes the slot."""
        queue = scheduler(CPU, slots=2)
        add(queue, "nm", priority=Priority.NIGHTLY)
        first = queue.next_batch(0.0)
        assert names_of(first) == "n"
        assert queue.next_batch(0.0) is None
        add(queue, "o")
        assert names_of(queue.next_batch(0.0)) == "o"
        assert first is not None
        queue.finished(first, 1.0)
        assert names_of(queue.next_batch(1.0)) == "m"

    def test_shapes_do_not_mix_and_keep_their_turn(self):
        """Tiles of another shape wait for a batch of their own."""
        queue = scheduler(GPU)
        add(queue, "a")
        add(queue, "x", shape=(100, 100))
        add(queue, "b")
        add(queue, "yz", shape=(100, 100))
        add(queue, "n", priority=Priority.NIGHTLY, shape=(100, 100))
        assert [names_of(queue.next_batch(0.0)) for _ in range(4)] == ["ab", "xyzn", "", ""]

    def test_what_is_late_or_gone_is_not_run(self):
        """Expired and discarded tiles leave no hole in a batch."""
        queue = scheduler(GPU)
        add(queue, "a", deadline_s=1.0)
        add(queue, "bcd", deadline_s=50.0)
        [_, gone, *_] = queue.entries(Priority.ONLINE)
        assert queue.discard(gone)
        assert not queue.discard(gone)
        assert queue.num_waiting == 3
        assert names_of(queue.next_batch(2.0)) == "cd"
        assert queue.num_waiting == 0

    def test_a_tile_that_runs_cannot_be_discarded(self):
        """Its result is dropped by its caller."""
        queue = scheduler(CPU)
        add(queue, "a")
        [entry] = queue.entries(Priority.ONLINE)
        queue.next_batch(0.0)
        assert not queue.discard(entry)

    def test_everything_can_be_taken_out(self):
        """At the end, all waiting tiles are returned."""
        queue = scheduler(CPU)
        add(queue, "n", priority=Priority.NIGHTLY)
        add(queue, "ab")
        assert [entry.payload for entry in queue.take_all()] == ["a", "b", "n"]
        assert queue.num_waiting == 0


class TestAdmission:
    """Who is refused, and until when."""

    def test_a_request_that_would_be_late_is_refused(self):
        """Ten tiles wait: an eleventh would be done after 11 s; 5 s are allowed."""
        queue = scheduler(CPU)
        add(queue, "abcdefghij")
        refusal = queue.refusal(1, Priority.ONLINE, deadline_s=5.0, now_s=0.0)
        # Five of them are due later than that, but they came without a deadline and are due at 21.
        assert refusal is None
        add(queue, "klmnop", deadline_s=5.0)
        refusal = queue.refusal(1, Priority.ONLINE, deadline_s=5.0, now_s=0.0)
        assert refusal is not None
        assert refusal.reason.startswith(
            "1 tiles would be done in 7.00 s, which is beyond the 5.00"
        )
        assert refusal.retry_after_s == pytest.approx(16.0)

    def test_an_idle_engine_takes_everything(self):
        """Even what will be late: a retry of the client would gain nothing."""
        queue = scheduler(CPU)
        assert queue.refusal(50, Priority.ONLINE, deadline_s=1.0, now_s=0.0) is None

    def test_the_budget_bounds_the_wait_and_not_the_work(self):
        """A large image is admitted behind little work, a small one is refused behind much."""
        queue = scheduler(CPU)
        add(queue, "abc")
        assert queue.refusal(60, Priority.ONLINE, deadline_s=None, now_s=0.0) is None
        add(queue, "d" * 30)
        refusal = queue.refusal(1, Priority.ONLINE, deadline_s=None, now_s=0.0)
        assert refusal is not None
        assert "beyond the online budget of 20.00 s" in refusal.reason

    def test_places_are_bounded_and_nightly_gets_half_of_them(self):
        """The scan's tiles cannot push the line's out of the queue."""
        queue = scheduler(CPU, max_waiting=4)
        add(queue, "n", priority=Priority.NIGHTLY)
        assert queue.refusal(1, Priority.NIGHTLY, deadline_s=None, now_s=0.0) is None
        refusal = queue.refusal(2, Priority.NIGHTLY, deadline_s=None, now_s=0.0)
        assert refusal is not None
        assert refusal.reason == "1 tiles wait and 2 more do not fit into the queue of 2"
        assert queue.refusal(3, Priority.ONLINE, deadline_s=None, now_s=0.0) is None
        assert queue.refusal(4, Priority.ONLINE, deadline_s=None, now_s=0.0) is not None

    def test_the_wait_of_online_tiles_leaves_nightly_ones_out(self):
        """They do not stand in their way."""
        queue = scheduler(CPU)
        add(queue, "nmk", priority=Priority.NIGHTLY)
        add(queue, "o")
        assert queue.drain_s(Priority.ONLINE, 0.0) == pytest.approx(1.0)
        assert queue.drain_s(Priority.NIGHTLY, 0.0) == pytest.approx(4.0)

    def test_what_runs_counts_until_it_is_done(self):
        """Half a second after it began, half a second is left of it."""
        queue = scheduler(CPU)
        add(queue, "ab")
        batch = queue.next_batch(0.0)
        assert queue.drain_s(Priority.ONLINE, 0.5) == pytest.approx(1.5)
        assert batch is not None
        queue.finished(batch, 1.0)
        assert queue.drain_s(Priority.ONLINE, 1.0) == pytest.approx(1.0)


class TestUnderLoad:
    """Two simulated minutes of an engine of 180 ms a tile that gains nothing by batching."""

    COSTS: ClassVar = {1: 0.18, 2: 0.36, 4: 0.72}

    @pytest.mark.parametrize("share", [0.2, 0.5])
    def test_nightly_tiles_hardly_delay_online_ones(self, share: float):
        """With the nightly class saturating the engine, online p99 grows by less than half."""
        alone, mixed = (
            simulate(self.COSTS, Load(share=share, is_nightly=is_nightly, seconds=1200.0))
            for is_nightly in (False, True)
        )
        assert mixed.p99_s <= 1.5 * alone.p99_s
        # And the engine is never idle.
        assert mixed.tiles_per_s + mixed.nightly_per_s > 0.98 / 0.18

    def test_overload_is_refused_and_the_admitted_are_served_in_time(self):
        """At three times what the engine can do: bounded latency, true promises."""
        load = Load(share=3.0, is_nightly=False, seconds=240.0, budget_s=2.0)
        outcome = simulate(self.COSTS, load)
        assert outcome.p99_s <= 2.0 + 2.2 * 0.18
        assert outcome.tiles_per_s > 0.98 / 0.18
        assert 0.6 * outcome.offered < outcome.refused < 0.72 * outcome.offered
        assert 0.5 < outcome.retry_ratio < 2.0

    def test_the_same_seed_gives_the_same_outcome(self):
        """A table can be printed again."""
        load = Load(share=0.8, is_nightly=True, seconds=60.0)
        first, second = simulate(self.COSTS, load), simulate(self.COSTS, load)
        # NaN is not equal to itself.
        assert math.isnan(first.retry_ratio) == math.isnan(second.retry_ratio)
        assert np.array_equal([first.p99_s, first.batch], [second.p99_s, second.batch])
