"""The batch rules, one by one, with an engine that waits at a gate; nothing sleeps."""

import asyncio
import contextlib
import gc
import time
import weakref
from collections.abc import AsyncIterator

import numpy as np
import pytest

from service.batching.batcher import Batcher
from service.batching.tile_runner import TileResult
from service.ground.errors import DeadlineExceeded, EngineFailed, NotReady, QueueFull
from tests.fakes import FakeEngine, FixedCosts, RecordingObserver

pytestmark = pytest.mark.anyio


def tile(value: int = 0, *, side: int = 8) -> np.ndarray:
    """A flat tile of one grey level."""
    return np.full((side, side), value, dtype=np.uint8)


@contextlib.asynccontextmanager
async def running(
    engine: FakeEngine, *, max_batch_size: int = 4, max_queue: int = 16
) -> AsyncIterator[tuple[Batcher, RecordingObserver]]:
    """A started batcher that is closed, and whose threads end, after any test."""
    observer = RecordingObserver()
    batcher = Batcher(
        engine,
        costs=FixedCosts(max_batch_size),
        max_queue=max_queue,
        answer_bytes=32 * 32,
        online_budget_s=60.0,
        observer=observer,
    )
    batcher.start()
    try:
        yield batcher, observer
    finally:
        engine.open_gate()
        batcher.close()
        assert await batcher.join(30)


async def engine_started(engine: FakeEngine) -> None:
    """Wait until one more batch has reached the gate."""
    assert await asyncio.to_thread(engine.started.acquire, timeout=30)


def submit_late(batcher: Batcher, late: np.ndarray, after_s: float) -> asyncio.Future[TileResult]:
    """Queue a tile whose deadline is a moment away, and after another time.

    It is refused where this thread stood still in that moment; then the next moment is taken.
    """
    while True:
        deadline_s = max(time.monotonic(), after_s) + 0.01
        with contextlib.suppress(QueueFull):
            return batcher.submit([late], deadline_s=deadline_s)[0]


async def under_way(
    batcher: Batcher, engine: FakeEngine, lr: np.ndarray
) -> tuple[asyncio.Future[TileResult], float]:
    """Have a tile at the gate whose deadline is soon; returns it and its deadline.

    The engine must have begun before, for which a machine that stands still needs longer.
    """
    for soon_s in (0.05, 1.0, 25.0):
        deadline_s = time.monotonic() + soon_s
        [future] = batcher.submit([lr], deadline_s=deadline_s)
        started = asyncio.create_task(engine_started(engine))
        await asyncio.wait([started, future], return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            return future, deadline_s
        engine.started.release()  # no other test waits for it
        await started
    raise AssertionError("the engine never began in time")


async def test_single_tile_is_dispatched_at_once_and_enlarged():
    """An idle engine takes a lone tile without waiting for others."""
    engine = FakeEngine()
    async with running(engine) as (batcher, _):
        [future] = batcher.submit([tile(7)])
        result = await future
    assert engine.batches == [(1, 8, 8)]
    assert result.batch_size == 1
    np.testing.assert_array_equal(result.sr, tile(7, side=32))


async def test_a_finished_tile_is_free_at_once():
    """Its memory does not wait for the collector of cycles; the engine holds its last batch."""
    engine = FakeEngine()
    gc.disable()
    try:
        async with running(engine) as (batcher, _):
            lr = tile(7)
            seen = weakref.ref(lr)
            [future] = batcher.submit([lr])
            answer = weakref.ref((await future).sr)
            del lr, future
            await batcher.submit([tile(8)])[0]
            assert seen() is None
            assert answer() is None
    finally:
        gc.enable()


async def test_tiles_gather_while_the_engine_is_busy():
    """Tiles that arrive during a batch form the next ones, none above the limit, oldest first."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as (batcher, _):
        [first] = batcher.submit([tile(100)])
        await engine_started(engine)
        others = [batcher.submit([tile(value)])[0] for value in range(6)]
        engine.open_gate()
        results = await asyncio.gather(first, *others)
    assert [size for size, *_ in engine.batches] == [1, 4, 2]
    assert engine.first_pixels == [[100], [0, 1, 2, 3], [4, 5]]
    assert [int(result.sr[0, 0]) for result in results] == [100, 0, 1, 2, 3, 4, 5]


async def test_every_slot_works_at_the_same_time():
    """Two slots run two batches before either has finished."""
    engine = FakeEngine(slots=2)
    engine.gate.clear()
    async with running(engine, max_batch_size=1) as (batcher, _):
        futures = batcher.submit([tile(1), tile(2)])
        await engine_started(engine)
        await engine_started(engine)
        assert batcher.in_flight == 2
        engine.open_gate()
        await asyncio.gather(*futures)


async def test_one_shape_per_batch_and_order_is_kept():
    """Tiles of another shape wait for a batch of their own and keep their place."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as (batcher, _):
        blocker = batcher.submit([tile()])
        await engine_started(engine)
        futures = [
            batcher.submit([tile(value, side=side)])[0]
            for value, side in ((1, 8), (2, 16), (3, 8), (4, 16))
        ]
        engine.open_gate()
        await asyncio.gather(*blocker, *futures)
    assert engine.batches == [(1, 8, 8), (2, 8, 8), (2, 16, 16)]
    assert engine.first_pixels[1:] == [[1, 3], [2, 4]]


async def test_full_queue_refuses_at_once_and_takes_nothing():
    """A submission that does not fit as a whole is refused; what waited before is served."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine, max_queue=3) as (batcher, _):
        futures = batcher.submit([tile()])
        await engine_started(engine)
        futures += batcher.submit([tile(), tile()])
        with pytest.raises(QueueFull, match=r"2 tiles wait and 2 more do not fit .* of 3"):
            batcher.submit([tile(), tile()])
        assert batcher.depth == 2
        futures += batcher.submit([tile()])
        engine.open_gate()
        assert len(await asyncio.gather(*futures)) == 4


async def test_cancelled_tile_leaves_the_queue_and_frees_its_place():
    """A cancelled tile never reaches the engine, and another can take its place at once."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine, max_queue=1) as (batcher, observer):
        blocker = batcher.submit([tile(9)])
        await engine_started(engine)
        [unwanted] = batcher.submit([tile(1)])
        unwanted.cancel()
        await asyncio.sleep(0)
        assert batcher.depth == 0
        wanted = batcher.submit([tile(2)])
        engine.open_gate()
        await asyncio.gather(*blocker, *wanted)
    assert engine.first_pixels == [[9], [2]]
    assert observer.cancelled == 1


async def test_cancelling_a_tile_under_way_leaves_its_neighbours_unharmed() -> None:
    """The neighbours of a tile whose client left mid-batch get their answers (MLServer's hang)."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as (batcher, observer):
        gone, stays = batcher.submit([tile(1), tile(2)])
        await engine_started(engine)
        gone.cancel()
        await asyncio.sleep(0)
        engine.open_gate()
        assert int((await asyncio.wait_for(stays, 30)).sr[0, 0]) == 2
        assert await batcher.drain(30)
    assert engine.batches == [(2, 8, 8)]
    assert observer.cancelled == 0


async def test_expired_tile_is_dropped_though_the_engine_is_stuck() -> None:
    """A deadline that passes in the queue fails that tile alone, at once."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as (batcher, observer):
        blocker = batcher.submit([tile(9)])
        await engine_started(engine)
        late = submit_late(batcher, tile(1), time.monotonic())
        [fine] = batcher.submit([tile(2)], deadline_s=time.monotonic() + 3600)
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(late, 30)
        assert batcher.depth == 1
        engine.open_gate()
        await asyncio.gather(*blocker, fine)
    assert engine.first_pixels == [[9], [2]]
    assert observer.missed == 1


async def test_deadline_does_not_stop_a_tile_under_way() -> None:
    """What the engine already works on is answered, late or not."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as (batcher, observer):
        future, deadline_s = await under_way(batcher, engine, tile(4))
        missed = observer.missed
        late = submit_late(batcher, tile(5), deadline_s)
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(late, 30)
        assert batcher.oldest_batch_s() > 0
        engine.open_gate()
        assert (await asyncio.wait_for(future, 30)).sr[0, 0] == 4
        assert batcher.oldest_batch_s() == 0
    assert observer.missed == missed + 1


async def test_engine_error_fails_its_batch_only():
    """Any error of a runtime reaches that batch's tiles, without details, and the loop lives."""
    engine = FakeEngine()
    engine.failures = [MemoryError("secret detail")]
    async with running(engine) as (batcher, observer):
        with pytest.raises(EngineFailed) as failure:
            await batcher.submit([tile()])[0]
        assert "secret" not in str(failure.value)
        assert isinstance(observer.errors[0], MemoryError)
        assert (await batcher.submit([tile(3)])[0]).sr[0, 0] == 3
        assert observer.finished == [(1, True), (1, False)]
        assert batcher.unavailable is None


async def test_flags_of_another_shape_are_an_engine_error() -> None:
    """A graph of another bundle format would give other flags."""
    engine = FakeEngine()
    engine.spoil = lambda output: output._replace(flags=output.flags[:, :2])
    async with running(engine) as (batcher, observer):
        with pytest.raises(EngineFailed):
            await asyncio.wait_for(batcher.submit([tile(1)])[0], 30)
        assert "flags (1, 2); expected (1, 6)" in str(observer.errors[0])


async def test_report_that_fails_keeps_nobody_waiting() -> None:
    """A full disk under the log must not hang the clients whose batch failed."""
    engine = FakeEngine()
    engine.failures = [RuntimeError("broken")]
    async with running(engine) as (batcher, observer):
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)

        def full_disk(error: Exception) -> None:
            raise OSError("no space left")

        observer.batch_error = full_disk
        with pytest.raises(EngineFailed):
            await asyncio.wait_for(batcher.submit([tile()])[0], 30)
        assert (await batcher.submit([tile(3)])[0]).sr[0, 0] == 3


async def test_dead_loop_tells_every_waiter_and_refuses_new_tiles():
    """If the loop itself ends, no client waits indefinitely and the failure is visible."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as (batcher, _):
        under_way = batcher.submit([tile()])
        await engine_started(engine)
        waiting = batcher.submit([tile()])
        engine.failures = [SystemExit("the loop ends")]
        engine.open_gate()
        results = await asyncio.gather(*under_way, *waiting, return_exceptions=True)
        assert [type(result) for result in results] == [EngineFailed, EngineFailed]
        assert "loop has failed" in (batcher.unavailable or "")
        with pytest.raises(NotReady):
            batcher.submit([tile()])


async def test_close_finishes_what_is_under_way_and_fails_what_waits():
    """Closing lets the running batch end, and fails the waiting tiles."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as (batcher, _):
        [under_way] = batcher.submit([tile(5)])
        await engine_started(engine)
        [waiting] = batcher.submit([tile()])
        batcher.close()
        with pytest.raises(NotReady):
            await waiting
        with pytest.raises(NotReady):
            batcher.submit([tile()])
        engine.open_gate()
        assert (await under_way).sr[0, 0] == 5


async def test_drain_waits_for_every_tile_and_says_when_time_runs_out():
    """Drain is true when all is settled and false while the engine is stuck."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as (batcher, _):
        futures = batcher.submit([tile(), tile()])
        assert not await batcher.drain(0)
        engine.open_gate()
        assert await batcher.drain(30)
        assert all(future.done() for future in futures)


async def test_expected_wait_grows_with_the_queue():
    """The estimate is nothing at first, and a batch's cost for every batch that waits."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as (batcher, _):
        assert batcher.expected_wait_s() == 0
        futures = batcher.submit([tile()])
        await engine_started(engine)
        futures += batcher.submit([tile()] * 8)
        # Two batches of four, and the rest of the one in flight.
        assert 2e-3 <= batcher.expected_wait_s() <= 3e-3
        engine.open_gate()
        await asyncio.gather(*futures)
