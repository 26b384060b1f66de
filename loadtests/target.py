"""The service under load: started in a mode, with the tile that is sent to it."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx2

from bundle_format.bundle import Bundle, load_bundle
from loadtests.open_loop import Stream, http_request
from semsr.bench.load import LoadResult, run_load
from semsr.server_process import running_server
from service.settings import Settings

PATH = "/superresolve"


@dataclass(frozen=True)
class Tile:
    """A raw tile and the length of its answer.

    Attributes:
        body: uint8, row by row.
        headers: That say so.
        answer_bytes: Length of a good answer.
    """

    body: bytes
    headers: dict[str, str]
    answer_bytes: int


@dataclass(frozen=True)
class Target:
    """A running service.

    Attributes:
        url: Of it.
        address: Host and port of it.
        pid: Its process, or the one that supervises the others.
        tile: What is sent.
    """

    url: str
    address: tuple[str, int]
    pid: int
    tile: Tile

    def engine(self) -> str:
        """Name of the engine that it chose."""
        return httpx2.get(f"{self.url}/model", trust_env=False, timeout=60.0).json()["engine"]

    def stream(
        self,
        name: str,
        *,
        rate_per_s: float = 0.0,
        concurrency: int = 0,
        arrivals: Literal["constant", "poisson"] = "poisson",
        seed: int = 0,
        headers: dict[str, str] | None = None,
    ) -> Stream:
        """A stream of raw tiles; see `loadtests.open_loop.Stream`."""
        return Stream(
            name=name,
            request=http_request(PATH, {**self.tile.headers, **(headers or {})}, self.tile.body),
            expected_bytes=self.tile.answer_bytes,
            rate_per_s=rate_per_s,
            concurrency=concurrency,
            arrivals=arrivals,
            seed=seed,
        )

    def closed_loop(self, *, connections: int, seconds: float) -> LoadResult:
        """Keep so many requests under way."""
        return run_load(
            self.address,
            path=PATH,
            body=self.tile.body,
            headers=self.tile.headers,
            connections=connections,
            seconds=seconds,
            expected_bytes=self.tile.answer_bytes,
        )


def bundle_path(given: Path | None) -> Path:
    """The bundle that is measured: as given, else the setting's."""
    return given or Settings().bundle


def golden_tile(bundle: Bundle) -> Tile:
    """The bundle's golden tile, raw."""
    height, width = bundle.manifest.tile
    return Tile(
        body=bundle.golden().lr[0, 0].tobytes(),
        headers={
            "Content-Type": "application/octet-stream",
            "X-Tile-Shape": f"{height},{width}",
        },
        answer_bytes=bundle.manifest.scale**2 * height * width,
    )


@contextlib.contextmanager
def running_service(
    bundle: Path, settings: dict[str, str], *, command: Sequence[str] = ("-m", "service")
) -> Iterator[Target]:
    """Serve a bundle until the block ends.

    Args:
        bundle: What is served.
        settings: `SEMSR_…` variables over those of the environment.
        command: What Python runs in place of the service itself.
    """
    with running_server({"SEMSR_BUNDLE": str(bundle), **settings}, command=command) as server:
        parts = urlsplit(server.url)
        address = (str(parts.hostname), int(parts.port or 0))
        yield Target(server.url, address, server.pid, golden_tile(load_bundle(bundle)))
