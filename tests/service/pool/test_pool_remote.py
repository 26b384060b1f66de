"""A front end and engine processes, in one process: tiles through the arena, refusals, deaths."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from bundle_format.bundle import FLAGS
from service.batching.batcher import Batcher
from service.batching.tile_runner import TileResult
from service.ground.errors import DeadlineExceeded, EngineFailed, NotReady, QueueFull
from service.pool.arena import Arena, Geometry
from service.pool.channel import listen
from service.pool.engine_link import EngineLink
from service.pool.engine_server import EngineServer
from service.pool.messages import Hello
from service.pool.remote_runner import RemoteRunner
from service.pool.slots import Slots
from tests.fakes import FakeEngine, FixedCosts, RecordingObserver

pytestmark = pytest.mark.anyio

SIDE = 8


def tile(value: int = 0) -> np.ndarray:
    """A flat tile of one grey level."""
    return np.full((SIDE, SIDE), value, dtype=np.uint8)


async def until(is_true: Callable[[], bool]) -> None:
    """Wait for something that comes over a socket."""
    async with asyncio.timeout(30):
        while not is_true():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.005)


class EnginePlace:
    """Where engine processes come and go."""

    def __init__(self, arena: Arena, row: int) -> None:
        self.arena = arena
        self.row = row
        self.listener, self.address = listen()
        self.engine = FakeEngine()
        self.observer = RecordingObserver()
        self.batcher: Batcher | None = None
        self.server: EngineServer | None = None

    def start(self, *, max_queue: int = 16, max_batch_size: int = 4) -> None:
        """Begin to serve."""
        self.engine = FakeEngine()
        self.batcher = Batcher(
            self.engine,
            costs=FixedCosts(max_batch_size),
            max_queue=max_queue,
            answer_bytes=32 * 32,
            online_budget_s=60.0,
            observer=self.observer,
        )
        self.batcher.start()
        hello = Hello("m", "v", "d", "fake", "fp32", {1: 1e-3})
        self.server = EngineServer(
            self.listener, self.arena, self.batcher, hello=hello, engine=self.engine, row=self.row
        )
        self.server.start()

    async def die(self) -> None:
        """End as a killed process does, whatever is under way; its address stays."""
        assert self.server is not None
        assert self.batcher is not None
        self.server.close()
        self.engine.open_gate()
        self.batcher.close()
        assert await self.batcher.join(30)
        self.arena.engine_row(self.row)[:] = 0


class Pool:
    """One front end and two places for engine processes; the first one is filled."""

    def __init__(self, slots: int) -> None:
        self.arena = Arena.create(
            Geometry(partitions=1, slots=slots, lr_bytes=64, sr_bytes=1024, snapshots=1)
        )
        self.places = [EnginePlace(self.arena, row) for row in (0, 1)]
        self.slots = Slots(self.arena, 0)
        self.runner = RemoteRunner(
            self.slots, model="m", scale=4, max_queue=max(16, slots), online_budget_s=60.0
        )
        self.links = [
            EngineLink(
                place.address,
                place.row,
                self.arena,
                on_hello=lambda link, _: self.runner.add(link),
            )
            for place in self.places
        ]

    @property
    def engine(self) -> FakeEngine:
        """The first place's engine."""
        return self.places[0].engine

    async def engine_started(self) -> None:
        """Wait until one more batch has reached the gate."""
        assert await asyncio.to_thread(self.engine.started.acquire, timeout=30)

    async def restart(self, **settings: int) -> None:
        """Kill the first place's engine and start its successor."""
        await self.places[0].die()
        await until(lambda: not self.links[0].is_up)
        self.places[0].start(**settings)
        await until(lambda: self.links[0].is_up)


@contextlib.asynccontextmanager
async def running(*, slots: int = 6, **settings: int) -> AsyncIterator[Pool]:
    """A pool that is ready."""
    pool = Pool(slots)
    pool.places[0].start(**settings)
    await until(lambda: pool.runner.unavailable is None)
    try:
        yield pool
    finally:
        pool.runner.close()
        for link in pool.links:
            link.close()
        for place in pool.places:
            if place.server is not None:
                await place.die()
            place.listener.close()


async def test_an_answer_lies_where_the_engine_wrote_it() -> None:
    """In the slot from which it is sent: no copy in the engine process or in the front end."""
    async with running() as pool:
        for _ in range(2):
            pool.engine.written.clear()
            [future] = pool.runner.submit([tile()])
            result = await asyncio.wait_for(future, 30)
            assert pool.engine.written == [result.sr.ctypes.data]
            assert np.shares_memory(result.sr, pool.engine.registered[0])
        assert len(pool.engine.registered) == 1


class TestTiles:
    """There and back."""

    async def test_each_tile_comes_back_as_itself(self):
        """Through slots, in batches, with flags."""
        async with running() as pool:
            futures = pool.runner.submit([tile(value) for value in range(6)])
            results = await asyncio.gather(*futures)
            for value, result in enumerate(results):
                np.testing.assert_array_equal(result.sr, np.full((32, 32), value, np.uint8))
                assert result.flags.shape == (len(FLAGS),)
            assert max(result.batch_size for result in results) > 1

    async def test_a_slot_is_taken_for_as_long_as_its_answer_is_held(self):
        """Views of views hold it too: what is still being sent is never overwritten."""
        async with running() as pool:
            [result] = await asyncio.gather(*pool.runner.submit([tile(7)]))
            sent = np.ascontiguousarray(result.sr).data.cast("B")[100:]
            del result
            gc.collect()
            assert pool.slots.num_free == 5
            for value in range(20):
                await until(lambda: pool.slots.num_free == 5)
                await asyncio.gather(*pool.runner.submit([tile(value)] * 5))
            assert set(sent) == {7}
            del sent
            await until(lambda: pool.slots.num_free == 6)

    async def test_no_more_slots_is_an_immediate_refusal(self):
        """And those that were free still are."""
        async with running() as pool:
            with pytest.raises(QueueFull, match="7 slots are needed and 6 are free"):
                pool.runner.submit([tile()] * 7)
            assert pool.slots.num_free == 6

    async def test_more_tiles_than_a_message_holds(self, monkeypatch: pytest.MonkeyPatch):
        """A huge image goes in several."""
        monkeypatch.setattr("service.pool.engine_link._MAX_SLOTS", 2)
        async with running() as pool:
            results = await asyncio.gather(*pool.runner.submit([tile(v) for v in range(5)]))
            assert [int(result.sr[0, 0]) for result in results] == [0, 1, 2, 3, 4]

    async def test_more_results_than_a_message_holds(self):
        """Of one turn of the engine's event loop: they come in several."""
        count = 4000
        async with running(slots=count, max_queue=count, max_batch_size=count) as pool:
            futures = pool.runner.submit([tile(v % 251) for v in range(count)])
            async with asyncio.timeout(30):
                results = await asyncio.gather(*futures)
            assert max(result.batch_size for result in results) == count
            assert [int(result.sr[0, 0]) for result in results] == [v % 251 for v in range(count)]


class TestRefusals:
    """What the engine process says comes by the futures."""

    async def test_a_full_queue(self):
        """With the time to come again, and the slots free again."""
        async with running(max_queue=1, max_batch_size=1) as pool:
            pool.engine.gate.clear()
            first = pool.runner.submit([tile()])
            await pool.engine_started()
            refused = pool.runner.submit([tile(), tile()])
            for future in refused:
                with pytest.raises(QueueFull, match="do not fit into the queue of 1") as caught:
                    await future
                assert caught.value.retry_after_s is not None
            assert pool.slots.num_free == 5
            pool.engine.open_gate()
            await asyncio.gather(*first)

    async def test_the_published_queue_refuses_before_anything_is_sent(self):
        """As far as the front end knows already."""
        async with running(max_queue=2, max_batch_size=1) as pool:
            pool.engine.gate.clear()
            futures = pool.runner.submit([tile()])
            await pool.engine_started()
            futures += pool.runner.submit([tile(), tile()])
            await until(lambda: pool.links[0].num_waiting == 2)
            pool.runner._max_queue = 2
            with pytest.raises(QueueFull, match="2 tiles wait"):
                pool.runner.check(1)
            pool.engine.open_gate()
            await asyncio.gather(*futures)

    async def test_an_engine_error_fails_its_batch_alone(self):
        """And is told apart from a refusal."""
        async with running() as pool:
            pool.engine.failures = [RuntimeError("boom")]
            with pytest.raises(EngineFailed, match="failed on the batch"):
                await pool.runner.submit([tile()])[0]
            assert int((await pool.runner.submit([tile(5)])[0]).sr[0, 0]) == 5
            await until(lambda: pool.slots.num_free == 6)

    async def test_memory_that_the_engine_cannot_register(self, monkeypatch: pytest.MonkeyPatch):
        """Its tile is answered, and the next one tries again."""
        async with running() as pool:

            def refuse(_: np.ndarray) -> None:
                raise MemoryError("no pages can be locked")

            with monkeypatch.context() as refusing:
                refusing.setattr(pool.engine, "register", refuse)
                async with asyncio.timeout(30):
                    with pytest.raises(EngineFailed, match="could not take this tile"):
                        await pool.runner.submit([tile()])[0]
            assert int((await pool.runner.submit([tile(5)])[0]).sr[0, 0]) == 5
            await until(lambda: pool.slots.num_free == 6)

    async def test_a_deadline_that_passes_in_the_queue(self):
        """The engine process drops the tile."""
        async with running(max_batch_size=1) as pool:
            pool.engine.gate.clear()
            first = pool.runner.submit([tile()])
            await pool.engine_started()
            while True:
                # Refused where this thread stood still for so long.
                with contextlib.suppress(QueueFull):
                    late = pool.runner.submit([tile()], deadline_s=time.monotonic() + 0.05)
                    break
            with pytest.raises(DeadlineExceeded):
                await late[0]
            pool.engine.open_gate()
            await asyncio.gather(*first)
            assert len(pool.engine.batches) == 1


class TestCancelling:
    """Clients that leave."""

    async def test_a_waiting_tile_leaves_the_queue(self):
        """Its slot is free at once, and the engine never sees it."""
        async with running(max_batch_size=1) as pool:
            pool.engine.gate.clear()
            first = pool.runner.submit([tile(1)])
            await pool.engine_started()
            [waiting] = pool.runner.submit([tile(2)])
            waiting.cancel()
            await until(lambda: pool.slots.num_free == 5)
            pool.engine.open_gate()
            await asyncio.gather(*first)
            assert pool.engine.first_pixels == [[1]]
            assert pool.places[0].observer.cancelled == 1

    async def test_a_slot_that_the_engine_uses_stays_taken(self):
        """Until the batch is done: nobody else may write there."""
        async with running() as pool:
            pool.engine.gate.clear()
            [future] = pool.runner.submit([tile(1)])
            await pool.engine_started()
            future.cancel()
            assert not await pool.runner.drain(0.05)
            assert pool.slots.num_free == 5
            pool.engine.open_gate()
            assert await pool.runner.drain(30)
            await until(lambda: pool.slots.num_free == 6)

    async def test_a_front_end_that_dies_leaves_no_work_behind(self):
        """What waits is dropped; what is under way ends."""
        async with running(max_batch_size=1) as pool:
            pool.engine.gate.clear()
            futures = pool.runner.submit([tile(1), tile(2), tile(3)])
            await pool.engine_started()
            pool.links[0].close()
            batcher = pool.places[0].batcher
            assert batcher is not None
            await until(lambda: batcher.depth == 0)
            pool.engine.open_gate()
            assert await batcher.drain(30)
            assert len(pool.engine.batches) == 1
            assert not any(future.done() for future in futures)
            pool.runner.close()
            await asyncio.gather(*futures, return_exceptions=True)


class TestDeaths:
    """Engine processes that die."""

    async def test_what_it_had_is_done_by_its_successor(self):
        """Waiting or under way, nothing is lost, and each comes back once."""
        async with running(max_batch_size=1) as pool:
            pool.engine.gate.clear()
            futures = pool.runner.submit([tile(value) for value in (1, 2, 3)])
            await pool.engine_started()
            await pool.restart()
            results = await asyncio.gather(*futures)
            assert [int(result.sr[0, 0]) for result in results] == [1, 2, 3]
            del results, futures
            await until(lambda: pool.slots.num_free == 6)

    async def test_another_engine_takes_over_at_once(self):
        """Nobody waits for the successor."""
        async with running() as pool:
            pool.places[1].start()
            await until(lambda: pool.links[1].is_up)
            pool.engine.gate.clear()
            pool.links[1].per_tile_s = 1.0
            pool.arena.engine_row(1)[:] = 9.0
            [future] = pool.runner.submit([tile(4)])
            await pool.engine_started()
            await pool.places[0].die()
            assert int((await future).sr[0, 0]) == 4
            assert pool.runner.unavailable is None

    async def test_a_tile_that_an_engine_failed_on_is_done_by_another(self):
        """Its card may be at fault, and the client does not notice."""
        async with running() as pool:
            await self._prefer_first(pool)
            pool.engine.failures = [RuntimeError("boom")]
            assert int((await pool.runner.submit([tile(6)])[0]).sr[0, 0]) == 6
            assert pool.places[1].engine.first_pixels == [[6]]
            await until(lambda: pool.slots.num_free == 6)

    async def test_a_tile_that_two_engines_failed_on_is_given_up(self):
        """It may be what they fail on."""
        async with running() as pool:
            await self._prefer_first(pool)
            for place in pool.places:
                place.engine.failures = [RuntimeError("boom")]
            with pytest.raises(EngineFailed, match="failed on the batch"):
                await pool.runner.submit([tile(6)])[0]
            assert [len(place.engine.batches) for place in pool.places] == [1, 1]
            await until(lambda: pool.slots.num_free == 6)

    @staticmethod
    async def _prefer_first(pool: Pool) -> None:
        """Start the second engine, which looks slower than the first."""
        pool.places[1].start()
        await until(lambda: pool.links[1].is_up)
        pool.links[1].per_tile_s = 1.0

    async def test_a_tile_that_two_engines_died_with_is_given_up(self):
        """It may be what kills them."""
        async with running() as pool:
            pool.engine.gate.clear()
            [future] = pool.runner.submit([tile()])
            for _ in range(2):
                await pool.engine_started()
                await pool.places[0].die()
                await until(lambda: not pool.links[0].is_up)
                pool.places[0].start()
                pool.engine.gate.clear()
                await until(lambda: pool.links[0].is_up)
            with pytest.raises(EngineFailed, match="died twice"):
                await future
            await until(lambda: pool.slots.num_free == 6)

    async def test_one_that_ends_in_order_tells_all_its_results_before(self):
        """Those too that became ready in the same turn of its event loop."""
        async with running() as pool:
            place = pool.places[0]
            assert place.batcher is not None
            assert place.server is not None
            pool.engine.gate.clear()
            futures = pool.runner.submit([tile(value) for value in (1, 2, 3)])
            await pool.engine_started()
            pool.engine.open_gate()
            assert await place.batcher.drain(30)
            place.server.close()
            pool.runner.abandon()
            results = await asyncio.gather(*futures)
            assert [int(result.sr[0, 0]) for result in results] == [1, 2, 3]

    async def test_nobody_waits_for_a_successor_that_will_not_come(self):
        """Neither what waits already, nor what is lost later, nor new requests."""
        async with running() as pool:
            pool.places[1].start()
            await until(lambda: pool.links[1].is_up)
            pool.arena.engine_row(1)[:] = 9.0
            pool.engine.gate.clear()
            [lost] = pool.runner.submit([tile(4)])
            await pool.engine_started()
            await pool.places[1].die()
            await until(lambda: not pool.links[1].is_up)
            pool.runner.abandon()
            await pool.places[0].die()
            with pytest.raises(NotReady, match="is not started again"):
                await lost
            with pytest.raises(NotReady, match="is not started again"):
                pool.runner.check(1)
            await until(lambda: pool.slots.num_free == 6)

    async def test_meanwhile_new_requests_are_told(self):
        """At once, and not that the service is full."""
        async with running() as pool:
            await pool.places[0].die()
            await until(lambda: not pool.links[0].is_up)
            assert pool.runner.unavailable == "the engine of m is being restarted"
            with pytest.raises(NotReady, match="being restarted"):
                pool.runner.submit([tile()])

    async def test_a_deadline_passes_while_there_is_no_engine(self):
        """No client waits for ever."""
        async with running() as pool:
            pool.engine.gate.clear()
            future = await self._under_way(pool)
            await pool.places[0].die()
            with pytest.raises(DeadlineExceeded):
                await future
            assert pool.slots.num_free == 6

    @staticmethod
    async def _under_way(pool: Pool) -> asyncio.Future[TileResult]:
        """Have a tile at the gate whose deadline is soon, but not before the engine has begun."""
        for soon_s in (0.3, 25.0):
            [future] = pool.runner.submit([tile()], deadline_s=time.monotonic() + soon_s)
            started = asyncio.create_task(pool.engine_started())
            await asyncio.wait([started, future], return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                return future
            pool.engine.started.release()  # nobody else waits for it
            await started
        raise AssertionError("the engine never began in time")

    async def test_a_client_that_leaves_meanwhile_is_forgotten(self):
        """Its tile is not given to the successor."""
        async with running() as pool:
            pool.engine.gate.clear()
            [future] = pool.runner.submit([tile()])
            await pool.engine_started()
            await pool.places[0].die()
            await until(lambda: not pool.links[0].is_up)
            future.cancel()
            await until(lambda: pool.slots.num_free == 6)
            pool.places[0].start()
            await until(lambda: pool.links[0].is_up)
            assert pool.engine.batches == []

    async def test_closing_settles_everything(self):
        """Also what no engine has."""
        async with running() as pool:
            pool.engine.gate.clear()
            futures = pool.runner.submit([tile(), tile()])
            await pool.engine_started()
            pool.runner.close()
            for future in futures:
                with pytest.raises(NotReady, match="shutting down"):
                    await future
            assert await pool.runner.drain(1)
