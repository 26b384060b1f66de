"""Fixtures of the service's tests; nothing here needs torch."""

import concurrent.futures
import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from bundle_format.bundle import Bundle
from engines.protocol import Engine, EngineOptions
from service.hosting.local_models import LocalModels
from service.http.app import Application, create_app
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

    def __init__(self, client: TestClient, engine: FakeEngine, app: Application) -> None:
        self.client = client
        self.engine = engine
        self.api = app.api
        self.lifecycle = app.lifecycle
        self.jobs = app.jobs

    def post(self, content: bytes, headers: dict[str, str] | None = None):
        """Send one image."""
        return self.client.post("/superresolve", content=content, headers=headers or RAW)

    def post_in_background(
        self, path: str, content: bytes, headers: dict[str, str]
    ) -> concurrent.futures.Future[Any]:
        """Send one image from another thread."""
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def send() -> None:
            answer.set_result(self.client.post(path, content=content, headers=headers))

        threading.Thread(target=send, daemon=True).start()
        return answer

    def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for something that the app does in the background."""
        deadline_s = time.monotonic() + 30
        while not is_true():
            assert time.monotonic() < deadline_s, "it never came true"
            time.sleep(0.01)

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
        given = {
            "bundle": TINY_BUNDLE,
            "engine": "identity",
            "cache_dir": tmp_path,
            **settings,
        }
        app = create_app(
            Settings(**{name: value for name, value in given.items() if value is not None}),
            make_host=functools.partial(LocalModels, engine_loader=loader or (lambda *_: engine)),
        )
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        stack.append(client)
        assert client.portal is not None
        client.portal.call(app.lifecycle.wait_loaded)
        engine.batches.clear()
        return ServedApp(client, engine, app)

    yield start
    for client in stack:
        client.__exit__(None, None, None)
