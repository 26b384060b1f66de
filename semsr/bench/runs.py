"""The measurements of `semsr bench`, one after the other, and the rows that they make."""

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from tqdm import tqdm

from export.bundle import Bundle, load_bundle
from semsr.bench import wrk
from semsr.bench.codec_loop import PNG, png_core_s, png_tile
from semsr.bench.engine_loop import engine_alone
from semsr.bench.load import LoadResult, run_load
from semsr.bench.memory import peak_resident_mib
from semsr.bench.modes import service_modes
from semsr.bench.nginx import nginx_path, running_nginx
from semsr.server_process import ServerProcess, running_server
from service.engines.cpu import available_cpus
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
    modes = service_modes()
    with tqdm(total=4 + 4 * len(modes), desc="bench", file=sys.stderr, disable=None) as steps:
        bench = _Bench(path, load_bundle(path), modes, seconds, connections, steps)
        return [*bench.real_model(), *bench.identity()]


@dataclass(frozen=True)
class _Bench:
    """What all measurements share."""

    path: Path
    bundle: Bundle
    modes: dict[str, dict[str, str]]
    seconds: float
    connections: int
    steps: "tqdm[Any]"

    def real_model(self) -> list[Row]:
        """The service against its own engine; the engine alone is measured before and after.

        The machine may drift meanwhile, so throughput is compared with the better of the two and
        latency with their mean.
        """
        environment = self._environment()
        with running_server(environment) as server:
            engine = httpx2.get(f"{server.url}/model", trust_env=False).json()["engine"]
        before = engine_alone(self.path, engine, self.seconds)
        codec_core_s = png_core_s(self.bundle, min(self.seconds, 3.0))
        self.steps.update()
        measured = {mode: self._serve_real(mode) for mode in self.modes}
        after = engine_alone(self.path, engine, self.seconds)
        self.steps.update()
        alone = {
            first.batch: max(first.tiles_per_s, second.tiles_per_s)
            for first, second in zip(before, after, strict=True)
        }
        best = max(alone, key=lambda size: alone[size])
        engine_core_ms = {speed.batch: speed.core_ms for speed in (*before, *after)}[best]
        tile_ms = statistics.mean([1e3 / before[0].tiles_per_s, 1e3 / after[0].tiles_per_s])
        png_core_ms = 1e3 * codec_core_s + engine_core_ms
        allowed = min(alone[best], 1e3 * available_cpus() / png_core_ms)
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
                "name": "engine and PNG codec, summed cores",
                "engine": engine,
                "tiles_per_s": allowed,
                "codec_core_ms": 1e3 * codec_core_s,
                "engine_core_ms": engine_core_ms,
            }
        )
        for mode, (one, raw, png, memory_mib) in measured.items():
            name = _name(mode)
            rows += [
                {
                    **_row(f"{name}, 1 connection", one, engine),
                    "engine_tile_ms": tile_ms,
                    "added_ms": one.percentile_ms(0.5) - tile_ms,
                },
                {
                    **_row(f"{name}, {self.connections} connections", raw, engine),
                    "ratio": raw.per_second / alone[best],
                    "yardstick": f"engine alone, batch {best}",
                },
                {
                    **_row(f"{name}, {self.connections} connections, PNG", png, engine),
                    "ratio": png.per_second / allowed,
                    "yardstick": "engine and PNG codec, summed cores",
                },
                {"name": f"{name}, resident memory", "engine": engine, "mib": memory_mib},
            ]
        return rows

    def _serve_real(self, mode: str) -> tuple[LoadResult, LoadResult, LoadResult, float]:
        with running_server(self._environment(mode)) as server:
            address = _address(server)
            one = self._own_client(address, connections=1)
            self.steps.update()
            raw = self._own_client(address, connections=self.connections)
            self.steps.update()
            png = self._png(server)
            self.steps.update()
            return one, raw, png, peak_resident_mib(server.pid)

    def _png(self, server: ServerProcess) -> LoadResult:
        body, headers = png_tile(self.bundle), {"Content-Type": PNG}
        answer = httpx2.post(
            f"{server.url}/superresolve",
            content=body,
            headers=headers,
            trust_env=False,
            timeout=60.0,
        )
        answer.raise_for_status()
        return run_load(
            _address(server),
            path="/superresolve",
            body=body,
            headers=headers,
            connections=self.connections,
            seconds=self.seconds,
            # One tile gives one picture, so its length is always the same.
            expected_bytes=len(answer.content),
        )

    def identity(self) -> list[Row]:
        """The service without a model against nginx handing out as many bytes, by each client."""
        ours: dict[str, dict[str, LoadResult]] = {}
        for mode in self.modes:
            environment = {**self._environment(mode), "SEMSR_ENGINE": "identity"}
            with running_server(environment) as server:
                ours[mode] = self._by_client(_address(server), "/superresolve")
            self.steps.update()
        nginx: dict[str, LoadResult] = {}
        if nginx_path() is not None:
            with running_nginx(b"\x80" * self._answer_bytes) as address:
                nginx = self._by_client(address, "/answer")
        self.steps.update()
        rows = [_row(f"nginx, the same bytes{note}", load) for note, load in nginx.items()]
        for mode, loads in ours.items():
            name = f"{_name(mode)}, {self.connections} connections"
            for note, load in loads.items():
                if not nginx:
                    rows.append(_row(f"{name}{note} (no nginx here)", load, "identity"))
                    continue
                ratio = load.per_second / nginx[note].per_second
                row = _row(f"{name}{note}", load, "identity")
                rows.append({**row, "ratio": ratio, "yardstick": f"nginx, the same bytes{note}"})
        self.steps.update()
        return rows

    def _by_client(self, address: tuple[str, int], path: str) -> dict[str, LoadResult]:
        """Load one address with our own client and, where it is installed, with wrk."""
        loads = {"": self._own_client(address, connections=self.connections, path=path)}
        if wrk.is_installed():
            loads[", by wrk"] = wrk.run_wrk(
                address,
                path=path,
                body=self._tile,
                headers=self._raw_headers,
                connections=self.connections,
                seconds=self.seconds,
            )
        return loads

    def _own_client(
        self, address: tuple[str, int], *, connections: int, path: str = "/superresolve"
    ) -> LoadResult:
        return run_load(
            address,
            path=path,
            body=self._tile,
            headers=self._raw_headers,
            connections=connections,
            seconds=self.seconds,
            expected_bytes=self._answer_bytes,
        )

    def _environment(self, mode: str = "single") -> dict[str, str]:
        return {"SEMSR_BUNDLE": str(self.path), **self.modes[mode]}

    @property
    def _answer_bytes(self) -> int:
        height, width = self.bundle.manifest.tile
        return self.bundle.manifest.scale**2 * height * width

    @property
    def _raw_headers(self) -> dict[str, str]:
        height, width = self.bundle.manifest.tile
        return {"Content-Type": RAW, "X-Tile-Shape": f"{height},{width}"}

    @property
    def _tile(self) -> bytes:
        return self.bundle.golden().lr[0, 0].tobytes()


def _name(mode: str) -> str:
    return "service" if mode == "single" else f"service, {mode}"


def _address(server: ServerProcess) -> tuple[str, int]:
    parts = urlsplit(server.url)
    return str(parts.hostname), int(parts.port or 0)


def _row(name: str, load: LoadResult, engine: str | None = None) -> Row:
    return {
        "name": name,
        **({} if engine is None else {"engine": engine}),
        "tiles_per_s": load.per_second,
        "errors": load.errors,
        "p50_ms": load.percentile_ms(0.5),
        "p99_ms": load.percentile_ms(0.99),
    }
