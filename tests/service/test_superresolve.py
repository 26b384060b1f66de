"""The hot route driven by hand: clients that leave, crawl, or come when the service is full."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.lifecycle import Lifecycle
from service.settings import Settings
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio

TINY_BUNDLE = Path(__file__).parent.parent / "data" / "tiny_bundle"
TILE = bytes(24 * 24)
HEADERS = [
    (b"content-type", b"application/octet-stream"),
    (b"x-tile-shape", b"24,24"),
    (b"content-length", b"576"),
]


class Exchange:
    """One request as an ASGI server would deliver it, message by message."""

    def __init__(self, app: Any, headers: list[tuple[bytes, bytes]] | None = None) -> None:  # noqa: ANN401
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

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        self.task = asyncio.create_task(app(scope, self._incoming.get, send))

    def body(self, content: bytes, *, more: bool = False) -> None:
        """Deliver a part of the body."""
        self._incoming.put_nowait({"type": "http.request", "body": content, "more_body": more})

    def disconnect(self) -> None:
        """The client closes the connection."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def status(self) -> int | None:
        """Wait for the end; None if nothing was answered."""
        await asyncio.wait_for(self.task, 30)
        return self.sent[0]["status"] if self.sent else None


@contextlib.asynccontextmanager
async def served(**settings: object) -> AsyncGenerator[tuple[Any, FakeEngine, Lifecycle]]:
    """An app around a fake engine, loaded, stopped at the end."""
    engine = FakeEngine()
    engine.name = "identity"
    app = create_app(
        Settings(bundle=TINY_BUNDLE, engine="identity", **settings),  # type: ignore[arg-type]
        engine_loader=lambda *_: engine,
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
    """Let the loop turn until a condition holds; fails after many turns instead of hanging."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never held")


async def test_client_that_leaves_takes_its_tile_out_of_the_queue() -> None:
    """A waiting tile is dropped with its client, and its place is free at once."""
    async with served(max_queue=2) as (app, engine, lifecycle):
        engine.gate.clear()
        first = Exchange(app)
        first.body(TILE)
        await engine_started(engine)
        gone = Exchange(app)
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


async def test_client_that_leaves_during_its_batch_harms_nobody() -> None:
    """The batch goes on; the neighbour in it is answered."""
    async with served() as (app, engine, lifecycle):
        engine.gate.clear()
        blocker = Exchange(app)
        blocker.body(TILE)
        await engine_started(engine)
        gone, stays = Exchange(app), Exchange(app)
        gone.body(TILE)
        stays.body(TILE)
        await until(lambda: sample(lifecycle, "semsr_queue_depth", priority="online") == 2)
        engine.open_gate()
        assert await blocker.status() == 200
        gone.disconnect()
        assert await stays.status() == 200
        await gone.status()
        assert sample(lifecycle, "semsr_admitted_tiles") == 0


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
