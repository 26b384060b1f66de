"""Fixtures of the service's tests; nothing here needs torch."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from export.bundle import Bundle
from service.app import create_app
from service.engines import Engine, EngineOptions
from service.lifecycle import Lifecycle
from service.settings import Settings
from tests.fakes import FakeEngine

TINY_BUNDLE = Path(__file__).parent.parent / "data" / "tiny_bundle"
RAW = {"content-type": "application/octet-stream", "x-tile-shape": "24,24"}


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


class ServedApp:
    """A running app, its engine, and a client."""

    def __init__(self, client: TestClient, engine: FakeEngine, lifecycle: Lifecycle) -> None:
        self.client = client
        self.engine = engine
        self.lifecycle = lifecycle

    def post(self, content: bytes, headers: dict[str, str] | None = None):
        """Send one image."""
        return self.client.post("/superresolve", content=content, headers=headers or RAW)

    def metric(self, name: str, **labels: str) -> float:
        """Read one sample."""
        return self.lifecycle.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServedApp]]:
    """Start apps with given settings; they stop when the test ends."""
    stack: list[TestClient] = []

    def start(
        *, loader: Callable[[str, Bundle, EngineOptions], Engine] | None = None, **settings: object
    ) -> ServedApp:
        engine = FakeEngine()
        engine.name = "identity"  # exempt from the golden tile: it enlarges by repetition
        app = create_app(
            Settings(
                **{
                    "bundle": TINY_BUNDLE,
                    "engine": "identity",
                    "cache_dir": tmp_path,
                    **settings,
                }
            ),
            engine_loader=loader or (lambda *_: engine),
        )
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        stack.append(client)
        assert client.portal is not None
        client.portal.call(app.lifecycle.wait_loaded)
        engine.batches.clear()
        return ServedApp(client, engine, app.lifecycle)

    yield start
    for client in stack:
        client.__exit__(None, None, None)
