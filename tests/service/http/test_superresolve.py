"""The hot route driven by hand: clients that leave, crawl, or come when the service is full."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from service.hosting.lifecycle import Lifecycle
from service.hosting.local_models import LocalModels
from service.http.app import Application, create_app
from service.http.connection import CONNECTION, Connection
from service.settings import Settings
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"
TILE = bytes(24 * 24)
HEADERS = [
    (b"content-type", b"application/octet-stream"),
    (b"x-tile-shape", b"24,24"),
    (b"content-length", b"576"),
]


class Exchange:
    """One request as an ASGI server would deliver it, message by message."""

    def __init__(
        self,
        app: Application,
        headers: list[tuple[bytes, bytes]] | None = None,
        *,
        last_part_waits_for: asyncio.Event | None = None,
        has_connection: bool = False,
    ) -> None:
        self.sent: list[dict[str, Any]] = []
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/superresolve",
            "raw_path": b"/superresolve",
            "query_string": b"",
            "headers": HEADERS if headers is None else headers,
            "state": {},
        }
        self._connection: Connection | None = None
        if has_connection:
            self._connection = Connection(mock.create_autospec(asyncio.Transport, instance=True))
            scope["extensions"] = {CONNECTION: self._connection}

        async def send(message: Any) -> None:  # noqa: ANN401
            if last_part_waits_for is not None and message.get("body") == b"":
                await last_part_waits_for.wait()
            self.sent.append(message)

        self.task = asyncio.create_task(app(scope, self._incoming.get, send))

    def body(self, content: bytes, *, more: bool = False) -> None:
        """Deliver a part of the body."""
        self._incoming.put_nowait({"type": "http.request", "body": content, "more_body": more})

    def disconnect(self) -> None:
        """The client closes the connection: the server's own says so, and its `receive`."""
        if self._connection is not None:
            self._connection.lost()
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def status(self) -> int | None:
        """Wait for the end; None if nothing was answered."""
        await asyncio.wait_for(self.task, 30)
        return self.sent[0]["status"] if self.sent else None


@contextlib.asynccontextmanager
async def served(
    *, on_failure: Callable[[], None] = lambda: None, **settings: object
) -> AsyncGenerator[tuple[Application, FakeEngine, Lifecycle]]:
    """An app around a fake engine, loaded, stopped at the end."""
    engine = FakeEngine()
    engine.name = "identity"
    app = create_app(
        Settings(bundle=TINY_BUNDLE, engine="identity", **settings),  # type: ignore[arg-type]
        make_host=partial(LocalModels, engine_loader=lambda *_: engine),
        on_failure=on_failure,
    )
    lifecycle = app.lifecycle
    async with app.api.router.lifespan_context(app.api):
        await lifecycle.wait_loaded()
        while engine.started.acquire(blocking=False):
            pass
        try:
            yield app, engine, lifecycle
        finally:
            engine.open_gate()


async def engine_started(engine: FakeEngine) -> None:
    """Wait until one more batch has reached the gate."""
    assert await asyncio.to_thread(engine.started.acquire, timeout=30)


def sample(lifecycle: Lifecycle, name: str, **labels: str) -> float:
    """Read one metric."""
    return lifecycle.metrics.registry.get_sample_value(name, labels) or 0.0


async def until(condition: Any) -> None:  # noqa: ANN401
    """Let the loop turn until a condition holds; fails after a time instead of hanging."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(0)


@pytest.mark.parametrize("has_connection", [False, True])
async def test_client_that_leaves_takes_its_tile_out_of_the_queue(has_connection: bool) -> None:
    """A waiting tile is dropped with its client, and its place is free at once."""
    async with served(max_queue=2) as (app, engine, lifecycle):
        engine.gate.clear()
        first = Exchange(app)
        first.body(TILE)
        await engine_started(engine)
        gone = Exchange(app, has_connection=has_connection)
        gone.body(TILE)
        await until(lambda: sample(lifecycle, "semsr_queue_depth", priority="online") == 1)
        gone.disconnect()
        assert await gone.status() is None
        assert sample(lifecycle, "semsr_queue_depth", priority="online") == 0
        assert sample(lifecycle, "semsr_cancelled_total") == 1
        assert sample(lifecycle, "semsr_admitted_tiles") == 1
        last = Exchange(app)
        last.body(TILE)
        engine.open_gate()
        assert await first.status() == 200
        assert await last.status() == 200
        assert [count for count, *_ in engine.batches[-2:]] == [1, 1]


@pytest.mark.parametrize("has_connection", [False, True])
async def test_client_that_leaves_during_its_batch_harms_nobody(has_connection: bool) -> None:
    """The batch goes on; the neighbour in it is answered."""
    async with served() as (app, engine, lifecycle):
        engine.gate.clear()
        blocker = Exchange(app)
        blocker.body(TILE)
        await engine_started(engine)
        gone, stays = Exchange(app, has_connection=has_connection), Exchange(app)
        gone.body(TILE)
        stays.body(TILE)
        await until(lambda: sample(lifecycle, "semsr_queue_depth", priority="online") == 2)
        engine.permits.release()
        assert await blocker.status() == 200
        await engine_started(engine)
        assert engine.batches[-1] == (2, 24, 24)
        gone.disconnect()
        assert await gone.status() is None
        engine.open_gate()
        assert await stays.status() == 200
        assert sample(lifecycle, "semsr_admitted_tiles") == 0


async def test_client_that_left_right_after_its_upload_is_not_served() -> None:
    """Nothing is run for a connection that is lost before its body has been looked at."""
    async with served() as (app, engine, lifecycle):
        batches = len(engine.batches)
        exchange = Exchange(app, has_connection=True)
        exchange.body(TILE)
        exchange.disconnect()
        assert await exchange.status() is None
        assert len(engine.batches) == batches
        assert sample(lifecycle, "semsr_admitted_tiles") == 0


async def test_a_request_is_freed_without_the_garbage_collector() -> None:
    """What refers to itself keeps its body until the collector comes, which costs all requests."""
    async with served() as (app, _, _):
        gc.disable()
        try:
            exchange = Exchange(app, has_connection=True)
            exchange.body(TILE)
            assert await exchange.status() == 200
            task = weakref.ref(exchange.task)
            del exchange
            await asyncio.sleep(0)
            assert task() is None
        finally:
            gc.enable()


async def test_client_that_leaves_during_its_upload_is_forgotten() -> None:
    """Half a body and a closed connection leave nothing behind."""
    async with served() as (app, engine, lifecycle):
        batches = len(engine.batches)
        exchange = Exchange(app)
        exchange.body(TILE[:100], more=True)
        exchange.disconnect()
        assert await exchange.status() is None
        assert len(engine.batches) == batches
        assert sample(lifecycle, "semsr_admitted_tiles") == 0
        assert sample(
            lifecycle, "semsr_requests_total", route="/superresolve", code="499", priority="online"
        )


async def test_body_in_many_parts_is_put_together() -> None:
    """However the network cuts it, the body is one."""
    async with served() as (app, _, _):
        exchange = Exchange(app)
        for start in range(0, 576, 64):
            exchange.body(TILE[start : start + 64], more=start < 512)
        assert await exchange.status() == 200
        assert len(exchange.sent[1]["body"]) == 96 * 96


async def test_body_that_never_ends_is_given_up() -> None:
    """A crawling client gets 408 and frees its place."""
    async with served(body_timeout_s=0.01) as (app, _, lifecycle):
        exchange = Exchange(app)
        exchange.body(TILE[:10], more=True)
        assert await exchange.status() == 408
        assert sample(lifecycle, "semsr_admitted_tiles") == 0


async def test_head_without_a_body_is_given_up() -> None:
    """A client that announces a body and sends none of it does not hold its place indefinitely."""
    async with served(body_timeout_s=0.01) as (app, _, lifecycle):
        exchange = Exchange(app)
        assert await exchange.status() == 408
        assert sample(lifecycle, "semsr_admitted_tiles") == 0


async def test_upload_holds_the_places_that_its_bytes_fill() -> None:
    """Announced or not, a large body counts before it is in memory; one too large is refused."""
    place_bytes = 96 * 96
    announced = [*HEADERS[:2], (b"content-length", str(3 * place_bytes).encode())]
    async with served(max_queue=4) as (app, _, lifecycle):
        first = Exchange(app, announced)
        await until(lambda: sample(lifecycle, "semsr_admitted_tiles") == 3)
        assert await Exchange(app, announced).status() == 503
        unannounced = Exchange(app, HEADERS[:2])
        unannounced.body(bytes(2 * place_bytes), more=True)
        assert await unannounced.status() == 503
        first.disconnect()
        assert await first.status() is None
        never = [*HEADERS[:2], (b"content-length", str(5 * place_bytes).encode())]
        assert await Exchange(app, never).status() == 413
        assert sample(lifecycle, "semsr_admitted_tiles") == 0


async def test_places_are_held_until_the_answer_has_left() -> None:
    """A client that reads slowly counts for as long as its answer takes up memory."""
    async with served() as (app, _, lifecycle):
        left = asyncio.Event()
        exchange = Exchange(app, last_part_waits_for=left)
        exchange.body(TILE)
        await until(lambda: len(exchange.sent) == 2)
        assert len(exchange.sent[1]["body"]) == 96 * 96
        assert sample(lifecycle, "semsr_admitted_tiles") == 1
        left.set()
        assert await exchange.status() == 200
        assert sample(lifecycle, "semsr_admitted_tiles") == 0


async def test_client_of_many_tiles_takes_them_all_with_it() -> None:
    """When an image's client leaves, none of its tiles stays in the queue."""
    headers = [(b"content-type", b"application/octet-stream"), (b"x-tile-shape", b"70,70")]
    async with served() as (app, engine, lifecycle):
        engine.gate.clear()
        blocker = Exchange(app)
        blocker.body(TILE)
        await engine_started(engine)
        gone = Exchange(app, headers)
        gone.body(bytes(70 * 70))
        await until(lambda: sample(lifecycle, "semsr_queue_depth", priority="online") > 9)
        gone.disconnect()
        assert await gone.status() is None
        assert sample(lifecycle, "semsr_queue_depth", priority="online") == 0
        engine.open_gate()
        assert await blocker.status() == 200


async def test_hanging_engine_ends_the_service() -> None:
    """An engine that does not come back turns the probes, so that the process is restarted."""
    failed = asyncio.Event()
    async with served(engine_timeout_s=0.01, on_failure=failed.set) as (app, engine, lifecycle):
        engine.gate.clear()
        exchange = Exchange(app)
        exchange.body(TILE)
        await engine_started(engine)
        await asyncio.wait_for(failed.wait(), 30)
        assert lifecycle.has_failed
        assert "worked on one batch" in lifecycle.reason
        engine.open_gate()
        await exchange.status()


async def test_stopping_while_loading_never_turns_ready() -> None:
    """A model that is there after SIGTERM is closed again, and nothing waits for it."""
    engine = FakeEngine()
    engine.name = "identity"
    engine.gate.clear()
    app = create_app(
        Settings(bundle=TINY_BUNDLE, engine="identity"),
        make_host=partial(LocalModels, engine_loader=lambda *_: engine),
    )
    async with app.api.router.lifespan_context(app.api):
        await engine_started(engine)
        assert app.lifecycle.begin_drain(5.0) == 0.0
        assert app.lifecycle.state == "draining"
        engine.open_gate()
        await asyncio.wait_for(app.lifecycle.wait_loaded(), 30)
        assert app.lifecycle.state == "draining"
        assert engine.closed
        assert await Exchange(app).status() == 503


async def test_server_that_runs_out_of_time_says_so() -> None:
    """A request that is cancelled at the end of the shutdown gets a problem, not a text."""
    async with served() as (app, engine, _):
        engine.gate.clear()
        exchange = Exchange(app)
        exchange.body(TILE)
        await engine_started(engine)
        exchange.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange.task
        assert exchange.sent[0]["status"] == 503
        assert b"stopped before the answer" in exchange.sent[1]["body"]
        engine.open_gate()


async def test_saturated_service_refuses_at_once_with_the_time_to_wait() -> None:
    """Beyond SEMSR_MAX_QUEUE a request gets 503 before its body is read."""
    async with served(max_queue=2) as (app, engine, lifecycle):
        engine.gate.clear()
        admitted = [Exchange(app) for _ in range(2)]
        for exchange in admitted:
            exchange.body(TILE)
        await engine_started(engine)
        refused = Exchange(app)
        assert await refused.status() == 503
        headers = dict(refused.sent[0]["headers"])
        assert int(headers[b"retry-after"]) >= 1
        assert b"retry_after_ms" in refused.sent[1]["body"]
        assert sample(lifecycle, "semsr_rejected_total", reason="queue_full") == 1
        engine.open_gate()
        assert [await exchange.status() for exchange in admitted] == [200, 200]


async def test_overload_flips_neither_probe() -> None:
    """A busy pod must not leave the load balancer, or every pod would at once."""
    async with served(max_queue=1) as (app, engine, lifecycle):
        engine.gate.clear()
        admitted = Exchange(app)
        admitted.body(TILE)
        await engine_started(engine)
        assert await Exchange(app).status() == 503
        assert lifecycle.state == "ready"
        engine.open_gate()
        assert await admitted.status() == 200


async def test_stopping_finishes_what_is_under_way() -> None:
    """The lifespan ends only after the admitted tile is answered."""
    async with served() as (app, engine, _):
        engine.gate.clear()
        exchange = Exchange(app)
        exchange.body(TILE)
        await engine_started(engine)
        asyncio.get_running_loop().call_later(0.01, engine.open_gate)
    assert await exchange.status() == 200
    assert engine.closed


async def test_dead_engine_loop_turns_both_probes() -> None:
    """Kubernetes must restart a service whose engine thread has ended; no client waits for it."""
    async with served() as (app, engine, lifecycle):
        engine.failures = [SystemExit("the loop ends")]
        exchange = Exchange(app)
        exchange.body(TILE)
        assert await exchange.status() == 500
        await until(lambda: lifecycle.has_failed)
        assert lifecycle.has_failed
        later = Exchange(app)
        later.body(TILE)
        assert await later.status() == 503
