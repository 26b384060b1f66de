"""A served app with a shadow, as tests of it use it."""

import subprocess
import sys
from typing import Any

import numpy as np

from service.shadow.shadow import Shadow
from tests.service.conftest import RAW, ServedApp

TILES = np.random.default_rng(3).integers(0, 256, (8, 24, 24), dtype=np.uint8)

# On left-over processor time alone, the shadow would start in minutes on a busy test machine.
EAGER = (
    sys.executable,
    "-c",
    "import sys, service.shadow_process as p; p.yield_processor = lambda: None; p.main()",
)


def report(app: ServedApp) -> dict[str, Any]:
    """Ask for the report."""
    answer = app.client.get("/admin/shadow")
    assert answer.status_code == 200, answer.text
    return answer.json()


def shadow_of(app: ServedApp) -> Shadow:
    """Return the shadow itself: a test that waits must not keep the service busy with requests."""
    shadow = app.lifecycle.host.shadow
    assert shadow is not None
    return shadow


def state(app: ServedApp) -> str:
    """State of the shadow."""
    return shadow_of(app).describe()["state"]


def tiles(app: ServedApp) -> dict[str, int]:
    """Tiles by outcome."""
    return shadow_of(app).describe()["tiles"]


def running(app: ServedApp) -> ServedApp:
    """Wait until the shadow takes tiles."""
    app.until(lambda: state(app) == "running")
    return app


def compared(app: ServedApp, count: int) -> dict[str, Any]:
    """Wait until so many tiles have been compared; returns the report."""
    app.until(lambda: tiles(app)["compared"] >= count)
    return report(app)


def send(app: ServedApp, count: int, *, pause: bool = True) -> list[bytes]:
    """Send tiles, each once the one before it has been compared or skipped."""
    answers = []
    for tile in TILES[:count]:
        before = tiles(app)
        answer = app.post(tile.tobytes(), {**RAW, "x-request-id": f"tile-{len(answers)}"})
        assert answer.status_code == 200, answer.text
        answers.append(answer.content)
        if pause:
            app.until(lambda before=before: tiles(app) != before)
    return answers


def process_of(app: ServedApp) -> subprocess.Popen[bytes]:
    """Wait for the shadow's process; it may still be loading."""
    worker = shadow_of(app)._worker
    assert worker is not None
    app.until(lambda: worker._process is not None)
    assert worker._process is not None
    return worker._process


def send_all(app: ServedApp) -> list[bytes]:
    """Send all tiles."""
    return [app.post(tile.tobytes()).content for tile in TILES]
