"""A real Prometheus with the shipped rules, next to a real service under a small mixed load."""

import contextlib
import functools
import http.server
import math
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import yaml

from semsr.server_process import ServerProcess
from service.ground.exposition import exposition
from service.ground.metrics import Metrics
from service.hosting.gpu_metrics import GpuMetrics
from tests.deploy.promql import PROMETHEUS, RULE_FILES
from tests.service.hosting.fake_nvml import FakeNvml

DCGM_SAMPLE = Path(__file__).parent / "dcgm.prom"
TILE_PX = 24
# Enough that a scan runs for some seconds: Prometheus, which looks every second, must see one run.
NUM_SCAN_TILES = 3000
_START_TIMEOUT_S = 60.0


class Prometheus:
    """Answers queries; see `running_prometheus`."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.Client(base_url=url, timeout=30.0, trust_env=False)

    def has_data(self, query: str) -> bool:
        """Whether a query gives at least one number now."""
        answer = self._client.get("/api/v1/query", params={"query": query})
        assert answer.status_code == 200, f"{query}\n{answer.text}"
        return any(
            not math.isnan(float(series["value"][1])) for series in answer.json()["data"]["result"]
        )

    def rules(self) -> list[dict[str, Any]]:
        """List every rule with its health."""
        groups = self._client.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def is_ready(self) -> bool:
        """Whether it answers yet."""
        with contextlib.suppress(httpx2.TransportError):
            return self._client.get("/-/ready").status_code == 200
        return False

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


@contextlib.contextmanager
def running_prometheus(server: ServerProcess, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus with the shipped configuration and rules, every second in place of minutes.

    Args:
        server: The service that it scrapes.
        folder: An empty folder for its files.
    """
    port = _free_port()
    with (
        _served_text(DCGM_SAMPLE.read_bytes) as dcgm,
        _served_text(_OtherService().text) as other,
    ):
        targets = {
            "semsr": [server.url, other],
            "dcgm": [dcgm],
            "prometheus": [f"http://127.0.0.1:{port}"],
        }
        config = _write_config(folder, targets)
        command = [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
        ]  # fmt: skip
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        try:
            deadline_s = time.monotonic() + _START_TIMEOUT_S
            while not prometheus.is_ready():
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline_s, "Prometheus did not become ready"
                time.sleep(0.1)
            yield prometheus
        finally:
            prometheus.close()
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def mixed_load(server: ServerProcess, api_key: str) -> Iterator[None]:
    """Send good tiles of both classes, bad ones, late ones, some without a key, over and over."""
    stop = threading.Event()
    tile = np.arange(TILE_PX * TILE_PX, dtype=np.uint8).tobytes()
    good = {
        "authorization": f"Bearer {api_key}",
        "content-type": "application/octet-stream",
        "x-tile-shape": f"{TILE_PX},{TILE_PX}",
    }
    kinds = [
        (tile, good),
        (tile, good | {"x-priority": "nightly", "x-tool": "CDSEM-07"}),
        (tile, good | {"x-request-timeout-ms": "0.001"}),
        (b"no image", good | {"content-type": "image/png"}),
        (tile, {name: value for name, value in good.items() if name != "authorization"}),
    ]

    def send() -> None:
        with httpx2.Client(timeout=30.0, trust_env=False) as client:
            while not stop.wait(0.02):
                for body, headers in kinds:
                    client.post(f"{server.url}/superresolve", content=body, headers=headers)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def scans_all_the_time(server: ServerProcess, api_key: str, folder: Path) -> Iterator[None]:
    """Run scans one after the other, each with a tile that fails.

    Args:
        server: The service, which may scan in the folder.
        api_key: Its key.
        folder: Made here.
    """
    lot = folder / "lot"
    lot.mkdir(parents=True)
    for index in range(NUM_SCAN_TILES):
        np.save(lot / f"t{index:05d}.npy", np.full((TILE_PX, TILE_PX), index % 256, np.uint8))
    (lot / "bad.npy").write_bytes(b"no array")
    stop = threading.Event()
    headers = {"authorization": f"Bearer {api_key}"}
    body = {"source": str(lot), "options": {"manifest": "csv"}}

    def run() -> None:
        number = 0
        with httpx2.Client(timeout=30.0, trust_env=False, headers=headers) as client:
            while not stop.wait(0.5):
                active = client.get(
                    f"{server.url}/scans", params={"state": ["running", "queued"]}
                ).json()
                if not active["scans"]:
                    number += 1
                    sink = str(folder / f"out{number}")
                    client.post(f"{server.url}/scans", json={**body, "sink": sink})

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _OtherService:
    """What a service with a GPU and a shadow adds to its metrics.

    The GPU's figures come from a stand-in for NVIDIA's library; a tile is compared at every scrape.
    """

    def __init__(self) -> None:
        self._metrics = Metrics()
        GpuMetrics(FakeNvml(), self._metrics).read()
        self._metrics.shadow_up.labels("default").set(1)

    def text(self) -> bytes:
        """The metrics as they are now."""
        metrics = self._metrics
        metrics.shadow_tiles.labels("default", "compared").inc()
        for outcome in ("served_only", "shadow_only"):
            metrics.shadow_flags.labels("default", outcome).inc()
        for histogram in (metrics.shadow_grey, metrics.shadow_above, metrics.shadow_edges):
            histogram.labels("default").observe(0.5)
        for side in ("served", "shadow"):
            metrics.shadow_duration.labels("default", side).observe(0.5)
        names = ("semsr_gpu_", "semsr_shadow_")
        families = metrics.registry.collect()
        return exposition(family for family in families if family.name.startswith(names))


def _write_config(folder: Path, targets: dict[str, list[str]]) -> Path:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        urls = targets[job["job_name"]]
        job["static_configs"] = [{"targets": [url.removeprefix("http://") for url in urls]}]
    (folder / "rules").mkdir()
    for path in RULE_FILES:
        rules = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in rules["groups"]:
            group.pop("interval", None)
        (folder / "rules" / path.name).write_text(yaml.safe_dump(rules), encoding="utf-8")
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _served_text(read: Callable[[], bytes]) -> Iterator[str]:
    """Answer every request with metrics."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(read())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's)
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.05))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
