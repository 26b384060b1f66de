"""An app with a shadow that needs no left-over processor time."""

import functools
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from service.http.access import hash_key
from service.shadow.worker import WorkerOptions
from tests.service.conftest import TINY_BUNDLE, ServedApp
from tests.shadow_app import EAGER


@pytest.fixture
def start(
    tmp_path: Path, serve: Callable[..., ServedApp], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ServedApp]:
    """Serve the identity, with the tiny bundle on ONNX Runtime as its shadow."""
    eager = functools.partial(WorkerOptions, command=EAGER)
    monkeypatch.setattr("service.shadow.shadow.WorkerOptions", eager)
    # On a busy test machine any tile may wait.
    monkeypatch.setattr("service.shadow.shadow._BUSY_S", math.inf)
    (tmp_path / "keys").write_text(f"boss {hash_key('b')} admin\n", encoding="utf-8")

    def begin(**settings: object) -> ServedApp:
        given = {"shadow_bundle": TINY_BUNDLE, "shadow_share": 1.0, "engine": "onnx", **settings}
        app = serve(api_keys=tmp_path / "keys", self_test_minutes=0, **given)
        app.client.headers["authorization"] = "Bearer b"
        return app

    return begin
