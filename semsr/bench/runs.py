"""The measurements of `semsr bench`, one after the other, and the rows that they make."""

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
from tqdm import tqdm

from export.bundle import Bundle, load_bundle
from semsr.bench import wrk
from semsr.bench.codec_loop import PNG, png_core_s, png_tile
from semsr.bench.engine_loop import Speed, engine_alone
from semsr.bench.load import LoadResult, run_load
from semsr.bench.memory import peak_resident_mib
from semsr.bench.modes import service_modes
from semsr.bench.nginx import nginx_path, running_nginx
from semsr.server_process import ServerProcess, running_server
from service.engines.cpu import available_cpus
from service.settings import Settings

Row = dict[str, Any]
RAW = "application/octet-stream"
ROUNDS = 3
_CORES = "engine and PNG codec, summed cores"
_NGINX = "nginx, the same bytes"


def run_bench(*, bundle: Path | None, seconds: float, connections: int) -> list[Row]:
    """Run every measurement.

    What is compared takes turns, and a ratio is the median of those of the rounds: a machine that
    drifts, does so for both.

    Args:
        bundle: Bundle to serve; None takes the setting's.
        seconds: Length of each turn.
        connections: Connections of the throughput measurements.

    Returns:
        Rows with `name`, the measured figure and, where there is one, `ratio` to its `yardstick`.
    """
    path = bundle or Settings().bundle
    modes = service_modes()
    with tqdm(total=ROUNDS * (3 + 2 * len(modes)), desc="bench", disable=None) as steps:
        bench = _Bench(path, load_bundle(path), modes, seconds, connections, steps)
        return [*bench.real_model(), *bench.identity()]


class _Turn(NamedTuple):
    """A mode's turn with the real model."""

    one: LoadResult
    raw: LoadResult
    png: LoadResult


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
        """The service in each mode, in turns with its own engine alone."""
        alone: list[list[Speed]] = []
        turns: dict[str, list[_Turn]] = {mode: [] for mode in self.modes}
        codec_core_ms = 1e3 * png_core_s(self.bundle, min(self.seconds, 3.0))
        with contextlib.ExitStack() as stack:
            servers = {
                mode: stack.enter_context(running_server(self._environment(mode)))
                for mode in self.modes
            }
            url = servers["single"].url
            engine = httpx2.get(f"{url}/model", trust_env=False, timeout=60.0).json()["engine"]
            for _ in range(ROUNDS):
                alone.append(engine_alone(self.path, engine, self.seconds))
                self.steps.update()
                for mode, server in servers.items():
                    turns[mode].append(self._turn(server))
                    self.steps.update()
            memory_mib = {mode: peak_resident_mib(server.pid) for mode, server in servers.items()}

        by_size = {speeds[0].batch: speeds for speeds in zip(*alone, strict=True)}
        speed = {
            size: statistics.median(one.tiles_per_s for one in speeds)
            for size, speeds in by_size.items()
        }
        best = max(speed, key=lambda size: speed[size])
        tile_ms = statistics.median(one.ms for one in by_size[1])
        core_ms = statistics.median(one.core_ms for one in by_size[best])
        cores_allow = 1e3 * available_cpus() / (codec_core_ms + core_ms)
        alone_per_s = [one.tiles_per_s for one in by_size[best]]
        png_per_s = [min(one, cores_allow) for one in alone_per_s]
        rows: list[Row] = [
            {
                "name": f"engine alone, batch {size}",
                "engine": engine,
                "batch": size,
                "tiles_per_s": per_s,
            }
            for size, per_s in speed.items()
        ]
        rows.append(
            {
                "name": _CORES,
                "engine": engine,
                "tiles_per_s": statistics.median(png_per_s),
                "codec_core_ms": codec_core_ms,
                "engine_core_ms": core_ms,
            }
        )
        for mode in self.modes:
            name, many = _name(mode), f"{_name(mode)}, {self.connections} connections"
            one, raw, png = map(list, zip(*turns[mode], strict=True))
            single = _row(f"{name}, 1 connection", one, engine)
            rows += [
                {**single, "engine_tile_ms": tile_ms, "added_ms": single["p50_ms"] - tile_ms},
                {
                    **_row(many, raw, engine),
                    "ratio": _ratio(raw, alone_per_s),
                    "yardstick": f"engine alone, batch {best}",
                },
                {
                    **_row(f"{many}, PNG", png, engine),
                    "ratio": _ratio(png, png_per_s),
                    "yardstick": _CORES,
                },
                {"name": f"{name}, resident memory", "engine": engine, "mib": memory_mib[mode]},
            ]
        return rows

    def _turn(self, server: ServerProcess) -> _Turn:
        address = _address(server)
        # Of one connection only the latency is wanted, and that it takes few answers to see.
        one = self._own_client(address, connections=1, seconds=self.seconds / 4)
        return _Turn(
            one, self._own_client(address, connections=self.connections), self._png(server)
        )

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
        """The service without a model, in turns with nginx handing out as many bytes."""
        ours: dict[str, list[dict[str, LoadResult]]] = {mode: [] for mode in self.modes}
        nginx: list[dict[str, LoadResult]] = []
        with contextlib.ExitStack() as stack:
            addresses = {
                mode: _address(
                    stack.enter_context(
                        running_server({**self._environment(mode), "SEMSR_ENGINE": "identity"})
                    )
                )
                for mode in self.modes
            }
            nginx_address = None
            if nginx_path() is not None:
                nginx_address = stack.enter_context(running_nginx(b"\x80" * self._answer_bytes))
            for _ in range(ROUNDS):
                for mode, address in addresses.items():
                    ours[mode].append(self._by_client(address, "/superresolve"))
                    self.steps.update()
                if nginx_address is not None:
                    nginx.append(self._by_client(nginx_address, "/answer"))
                self.steps.update()

        yardsticks = _together(nginx)
        rows = [_row(f"{_NGINX}{note}", loads) for note, loads in yardsticks.items()]
        for mode, turns in ours.items():
            name = f"{_name(mode)}, {self.connections} connections"
            for note, loads in _together(turns).items():
                if not nginx:
                    rows.append(_row(f"{name}{note} (no nginx here)", loads, "identity"))
                    continue
                ratio = _ratio(loads, [load.per_second for load in yardsticks[note]])
                row = _row(f"{name}{note}", loads, "identity")
                rows.append({**row, "ratio": ratio, "yardstick": f"{_NGINX}{note}"})
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
        self,
        address: tuple[str, int],
        *,
        connections: int,
        path: str = "/superresolve",
        seconds: float | None = None,
    ) -> LoadResult:
        return run_load(
            address,
            path=path,
            body=self._tile,
            headers=self._raw_headers,
            connections=connections,
            seconds=seconds or self.seconds,
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


def _row(name: str, turns: Sequence[LoadResult], engine: str | None = None) -> Row:
    """Rate as the median of the turns, latencies over all of them, errors summed."""
    every = LoadResult(
        requests=sum(turn.requests for turn in turns),
        errors=sum(turn.errors for turn in turns),
        seconds=sum(turn.seconds for turn in turns),
        latencies_ms=sorted(ms for turn in turns for ms in turn.latencies_ms),
    )
    return {
        "name": name,
        **({} if engine is None else {"engine": engine}),
        "tiles_per_s": statistics.median(turn.per_second for turn in turns),
        "errors": every.errors,
        "p50_ms": every.percentile_ms(0.5),
        "p99_ms": every.percentile_ms(0.99),
    }


def _ratio(turns: Sequence[LoadResult], yardstick_per_s: Sequence[float]) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(
        turn.per_second / per_s for turn, per_s in zip(turns, yardstick_per_s, strict=True)
    )


def _together(turns: Sequence[dict[str, LoadResult]]) -> dict[str, list[LoadResult]]:
    """The turns of each client."""
    return {note: [turn[note] for turn in turns] for note in (turns[0] if turns else {})}
