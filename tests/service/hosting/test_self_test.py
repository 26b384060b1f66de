"""The golden tile on an engine that serves: what is counted, refused, and taken back."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bundle_format.bundle import Bundle, load_bundle
from bundle_format.bundle_writer import write_bundle
from service.batching.batcher import Batcher
from service.ground.errors import NotReady
from service.ground.metrics import Metrics
from service.ground.priority import Priority
from service.hosting.loading import LoadedModel
from service.hosting.self_test import SelfTest, start_self_test
from service.pool import engine as engine_process
from service.pool.arena import Arena, Geometry
from service.pool.channel import listen
from service.pool.child_config import EngineConfig
from service.settings import Settings
from tests.bundles import bundle_files, manifest_fields
from tests.fakes import FakeEngine, FixedCosts, RecordingObserver
from tests.service.conftest import ServedApp

SIDE = 24
TILE = bytes(SIDE * SIDE)
# A few milliseconds: tests wait for results, not for this.
OFTEN_MINUTES = 0.0001


def darker(output):
    """What an engine gives whose memory has gone bad."""
    return output._replace(sr=np.maximum(output.sr, 9) - 9)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle whose golden output is what `FakeEngine` gives."""
    fields = manifest_fields(tile_px=SIDE)
    return write_bundle(tmp_path / "b", files=bundle_files(tile_px=SIDE), manifest_fields=fields)


class Examined:
    """One engine and its test."""

    def __init__(self, bundle: Bundle, *, period_s: float = 30.0) -> None:
        self.engine = FakeEngine()
        self.metrics = Metrics()
        self.results: list[str | None] = []
        self.batcher = Batcher(
            self.engine,
            costs=FixedCosts(4),
            max_queue=4,
            answer_bytes=16 * SIDE**2,
            online_budget_s=60.0,
            observer=RecordingObserver(),
        )
        self.test = SelfTest(
            LoadedModel(bundle, self.engine, {1: 1e-3}),
            self.batcher,
            name="m",
            metrics=self.metrics,
            period_s=period_s,
            on_result=self.results.append,
        )

    def count(self, outcome: str) -> float:
        """Tests with an outcome."""
        labels = {"model": "m", "outcome": outcome}
        return self.metrics.registry.get_sample_value("semsr_self_tests_total", labels) or 0.0


@pytest.fixture
def tested(bundle: Bundle) -> Iterator[Callable[..., Examined]]:
    """Make engines with tests; they end with the test."""
    made: list[Examined] = []

    def make(**settings: float) -> Examined:
        one = Examined(bundle, **settings)
        one.batcher.start()
        made.append(one)
        return one

    yield make
    for one in made:
        one.engine.open_gate()


@pytest.mark.anyio
class TestOnce:
    """One run of the golden tile."""

    async def test_a_sound_engine_passes_beside_other_work(self, tested) -> None:
        """As a nightly tile that is never refused, however full the queue is."""
        one = tested()
        one.engine.gate.clear()
        tiles = [np.zeros((SIDE, SIDE), np.uint8)] * 4
        first = one.batcher.submit(tiles[:1])
        assert await asyncio.to_thread(one.engine.started.acquire, timeout=30)
        waiting = one.batcher.submit(tiles)
        test = asyncio.create_task(one.test.test())
        while one.batcher.depth_of(Priority.NIGHTLY) == 0:  # noqa: ASYNC110 (nobody is told)
            await asyncio.sleep(0.005)
        one.engine.open_gate()
        assert await test is None
        await asyncio.gather(*first, *waiting)
        assert (one.count("passed"), one.count("failed")) == (1, 0)

    async def test_one_that_is_wrong_every_time_fails(self, tested) -> None:
        """With the largest error in the reason."""
        one = tested()
        one.engine.spoil = darker
        assert "9" in str(await one.test.test())
        assert (one.count("passed"), one.count("failed")) == (0, 3)

    async def test_one_that_is_wrong_once_is_counted(self, tested) -> None:
        """The alert sees it; the service goes on."""
        one = tested()
        one.engine.failures = [RuntimeError("a bit flipped")]
        assert await one.test.test() is None
        assert (one.count("passed"), one.count("failed")) == (1, 1)

    async def test_when_it_is_never_its_turn_it_says_so(self, tested) -> None:
        """That tells nothing of the engine."""
        one = tested(period_s=0.02)
        one.engine.gate.clear()
        running = asyncio.create_task(one.test.run())
        async with asyncio.timeout(30):
            while one.count("not_run") < 2:  # noqa: ASYNC110 (nobody is told)
                await asyncio.sleep(0.005)
        running.cancel()
        assert one.results == []

    async def test_there_is_none_without_minutes_or_a_model(self, bundle, tested) -> None:
        """0 turns it off; `identity` has no golden tile."""
        one = tested()
        for name, minutes in (("fake", 0.0), ("identity", 1.0)):
            one.engine.name = name
            model = LoadedModel(bundle, one.engine, {1: 1e-3})
            given = {"name": "m", "metrics": one.metrics, "on_result": one.results.append}
            assert start_self_test(model, one.batcher, minutes=minutes, **given) is None


@pytest.mark.anyio
async def test_a_suspended_batcher_gives_back_what_waits(tested) -> None:
    """Nobody gets a picture from an engine that is known to be wrong, nor waits for one."""
    one = tested()
    one.engine.gate.clear()
    tiles = [np.zeros((SIDE, SIDE), np.uint8)]
    under_way = one.batcher.submit(tiles)
    assert await asyncio.to_thread(one.engine.started.acquire, timeout=30)
    waiting = one.batcher.submit(tiles)
    one.batcher.suspend("it is wrong")
    with pytest.raises(NotReady, match="it is wrong"):
        await waiting[0]
    with pytest.raises(NotReady, match="it is wrong"):
        one.batcher.submit(tiles)
    one.engine.open_gate()
    await under_way[0]
    one.batcher.suspend(None)
    await one.batcher.submit(tiles)[0]


class TestService:
    """`SEMSR_MODE=single`."""

    @pytest.fixture
    def app(self, serve, bundle: Bundle) -> ServedApp:
        """A service that tests its engine all the time."""
        self.engine = FakeEngine()
        return serve(
            loader=lambda *_: self.engine, bundle=bundle.path, self_test_minutes=OFTEN_MINUTES
        )

    def send(self, app: ServedApp) -> int:
        """Send a tile; returns the status."""
        headers = {
            "content-type": "application/octet-stream",
            "x-tile-shape": f"{SIDE},{SIDE}",
        }
        return app.post(TILE, headers).status_code

    def test_an_engine_that_goes_wrong_serves_no_longer_until_it_is_right(self, app: ServedApp):
        """Readiness turns, requests are refused with the reason, and it comes back by itself."""
        app.until(lambda: self.count(app, "passed") > 2)
        assert self.send(app) == 200
        self.engine.spoil = darker
        app.until(lambda: app.client.get("/readyz").status_code == 503)
        assert "the self-test of test fails" in app.client.get("/readyz").json()["detail"]
        assert app.client.get("/livez").status_code == 200
        assert self.send(app) == 503
        assert self.count(app, "failed") >= 3
        self.engine.spoil = None
        app.until(lambda: app.client.get("/readyz").status_code == 200)
        assert self.send(app) == 200

    def count(self, app: ServedApp, outcome: str) -> float:
        """Tests with an outcome."""
        return app.metric("semsr_self_tests_total", model="test", outcome=outcome)


@pytest.mark.anyio
async def test_an_engine_process_that_goes_wrong_ends(bundle: Bundle) -> None:
    """Its supervisor starts the next one, which must prove itself before it serves."""
    supervisor, address = listen()
    listener, _ = listen()
    arena = Arena.create(
        Geometry(partitions=1, slots=2, lr_bytes=SIDE**2, sr_bytes=16 * SIDE**2, snapshots=2)
    )
    config = EngineConfig(
        name="engine-0",
        arena_fd=arena.fd,
        listener_fd=listener.detach(),
        supervisor=address,
        row=0,
        snapshot=1,
        model="m",
        bundle=bundle.path,
        device="cpu",
    )
    engine = FakeEngine()
    engine.spoil = darker
    settings = Settings(self_test_minutes=OFTEN_MINUTES)
    model = LoadedModel(load_bundle(bundle.path), engine, {1: 1e-3})
    process = engine_process.EngineProcess(config, settings, model)
    try:
        async with asyncio.timeout(30):
            assert await process.run() == engine_process.EXIT_FAILED
    finally:
        supervisor.close()
    assert b"semsr_self_tests" in arena.read_snapshot(1)
