"""The measurements of `semsr bench`, one after the other, and the rows that they make."""

import statistics
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from tqdm import tqdm

from export.bundle import Bundle, load_bundle
from semsr.bench import wrk
from semsr.bench.engine_loop import engine_alone
from semsr.bench.load import LoadResult, run_load
from semsr.bench.memory import peak_resident_mib
from semsr.bench.nginx import nginx_path, running_nginx
from semsr.server_process import ServerProcess, running_server
from service.settings import Settings

Row = dict[str, Any]
RAW = "application/octet-stream"


def run_bench(*, bundle: Path | None, seconds: float, connections: int) -> list[Row]:
    """Run every measurement.

    Args:
        bundle: Bundle to serve; None takes the setting's.
        seconds: Length of each.
        connections: Connections of the throughput measurements.

    Returns:
        Rows with `name`, the measured figure and, where there is one, `ratio` to its `yardstick`.
    """
    path = bundle or Settings().bundle
    loaded = load_bundle(path)
    with tqdm(total=6, desc="bench", file=sys.stderr, disable=None) as steps:
        rows = _real_model(path, loaded, seconds=seconds, connections=connections, steps=steps)
        rows += _identity(path, loaded, seconds=seconds, connections=connections, steps=steps)
    return rows


def _real_model(
    path: Path, bundle: Bundle, *, seconds: float, connections: int, steps: "tqdm[Any]"
) -> list[Row]:
    """The service against its own engine; the engine alone is measured before and after.

    The machine may drift meanwhile, so throughput is compared with the better of the two and
    latency with their mean.
    """
    environment = _environment(path)
    with running_server(environment) as server:
        engine = httpx2.get(f"{server.url}/model", trust_env=False).json()["engine"]
    before = engine_alone(path, engine, seconds)
    steps.update()
    with running_server(environment) as server:
        one = _load(server, bundle, connections=1, seconds=seconds)
        steps.update()
        many = _load(server, bundle, connections=connections, seconds=seconds)
        memory_mib = peak_resident_mib(server.pid)
        steps.update()
    after = engine_alone(path, engine, seconds)
    steps.update()
    alone = {
        first.batch: max(first.tiles_per_s, second.tiles_per_s)
        for first, second in zip(before, after, strict=True)
    }
    best = max(alone, key=lambda size: alone[size])
    tile_ms = statistics.mean([1e3 / before[0].tiles_per_s, 1e3 / after[0].tiles_per_s])
    rows: list[Row] = [
        {
            "name": f"engine alone, batch {size}",
            "engine": engine,
            "batch": size,
            "tiles_per_s": speed,
        }
        for size, speed in alone.items()
    ]
    rows.append(
        {
            **_row("service, 1 connection", one, engine),
            "engine_tile_ms": tile_ms,
            "added_ms": one.percentile_ms(0.5) - tile_ms,
        }
    )
    rows.append(
        {
            **_row(f"service, {connections} connections", many, engine),
            "ratio": many.per_second / alone[best],
            "yardstick": f"engine alone, batch {best}",
        }
    )
    rows.append({"name": "service, resident memory", "engine": engine, "mib": memory_mib})
    return rows


def _identity(
    path: Path, bundle: Bundle, *, seconds: float, connections: int, steps: "tqdm[Any]"
) -> list[Row]:
    """The service without a model against nginx handing out as many bytes, by each client."""
    with running_server({**_environment(path), "SEMSR_ENGINE": "identity"}) as server:
        ours = _by_client(
            _address(server), "/superresolve", bundle, seconds=seconds, connections=connections
        )
    steps.update()
    name = f"service, {connections} connections"
    if nginx_path() is None:
        steps.update()
        return [
            _row(f"{name}{note} (no nginx here)", load, "identity") for note, load in ours.items()
        ]
    with running_nginx(b"\x80" * _answer_bytes(bundle)) as address:
        nginx = _by_client(address, "/answer", bundle, seconds=seconds, connections=connections)
    steps.update()
    rows: list[Row] = []
    for note, load in ours.items():
        yardstick = f"nginx, the same bytes{note}"
        ratio = load.per_second / nginx[note].per_second
        rows.append(_row(yardstick, nginx[note]))
        row = _row(f"{name}{note}", load, "identity")
        rows.append({**row, "ratio": ratio, "yardstick": yardstick})
    return rows


def _by_client(
    address: tuple[str, int], path: str, bundle: Bundle, *, seconds: float, connections: int
) -> dict[str, LoadResult]:
    """Load one address with our own client and, where it is installed, with wrk."""
    loads = {"": _own_client(address, path, bundle, connections=connections, seconds=seconds)}
    if wrk.is_installed():
        loads[", by wrk"] = wrk.run_wrk(
            address,
            path=path,
            body=_tile(bundle),
            headers=_raw_headers(bundle),
            connections=connections,
            seconds=seconds,
        )
    return loads


def _environment(bundle: Path) -> dict[str, str]:
    return {"SEMSR_BUNDLE": str(bundle)}


def _load(server: ServerProcess, bundle: Bundle, *, connections: int, seconds: float) -> LoadResult:
    return _own_client(
        _address(server), "/superresolve", bundle, connections=connections, seconds=seconds
    )


def _own_client(
    address: tuple[str, int], path: str, bundle: Bundle, *, connections: int, seconds: float
) -> LoadResult:
    return run_load(
        address,
        path=path,
        body=_tile(bundle),
        headers=_raw_headers(bundle),
        connections=connections,
        seconds=seconds,
        expected_bytes=_answer_bytes(bundle),
    )


def _answer_bytes(bundle: Bundle) -> int:
    height, width = bundle.manifest.tile
    return bundle.manifest.scale**2 * height * width


def _address(server: ServerProcess) -> tuple[str, int]:
    parts = urlsplit(server.url)
    return str(parts.hostname), int(parts.port or 0)


def _raw_headers(bundle: Bundle) -> dict[str, str]:
    height, width = bundle.manifest.tile
    return {"Content-Type": RAW, "X-Tile-Shape": f"{height},{width}"}


def _tile(bundle: Bundle) -> bytes:
    return bundle.golden().lr[0, 0].tobytes()


def _row(name: str, load: LoadResult, engine: str | None = None) -> Row:
    return {
        "name": name,
        **({} if engine is None else {"engine": engine}),
        "tiles_per_s": load.per_second,
        "errors": load.errors,
        "p50_ms": load.percentile_ms(0.5),
        "p99_ms": load.percentile_ms(0.99),
    }
