"""The service under load: started in a mode, with the tile that is sent to it."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import httpx2

from bundle_format.bundle import Precision, load_bundle, parse_precision
from loadtests.closed_loop import LoadResult, run_closed_loop
from loadtests.exchange import Address, TileRequest
from loadtests.open_loop import Stream
from loadtests.tile_request import address_of, raw_request
from semsr.server_process import START_TIMEOUT_S, running_server
from service.settings import Settings

BUDGET_VARIABLE = "SEMSR_ONLINE_BUDGET_MS"
# The service's modes, with the variables that choose each; the environment may have further ones.
MODES = {mode: {"SEMSR_MODE": mode} for mode in ("single", "pool")}


class EngineChoice(NamedTuple):
    """An engine, and the precision that it computes in: the baseline must compute in the same."""

    name: str
    precision: Precision


@dataclass(frozen=True)
class Target:
    """A running service.

    Attributes:
        url: Its address as a URL.
        address: Its host and port.
        pid: Id of its process, or of the one that supervises the others.
        tile: Raw tile that fits its model.
    """

    url: str
    address: Address
    pid: int
    tile: TileRequest

    def engine(self) -> EngineChoice:
        """Return the engine and the precision that the service chose."""
        model = httpx2.get(f"{self.url}/model", trust_env=False, timeout=60.0).json()
        return EngineChoice(model["engine"], parse_precision(model["precision"]))

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
        """Return a stream of raw tiles; see `loadtests.open_loop.Stream`."""
        return Stream(
            name=name,
            request=self.tile.http(headers),
            expected_bytes=self.tile.answer_bytes,
            rate_per_s=rate_per_s,
            concurrency=concurrency,
            arrivals=arrivals,
            seed=seed,
        )

    def closed_loop(self, *, connections: int, seconds: float) -> LoadResult:
        """Keep a number of requests in flight; see `loadtests.closed_loop`."""
        return run_closed_loop(self.address, self.tile, connections=connections, seconds=seconds)


def bundle_path(given: Path | None) -> Path:
    """Return the given bundle, or else the one in the settings."""
    return given or Settings().bundle


@contextlib.contextmanager
def running_service(
    bundle: Path,
    settings: dict[str, str],
    *,
    command: Sequence[str] = ("-m", "service"),
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[Target]:
    """Serve a bundle until the block ends.

    Args:
        bundle: Bundle that is served.
        settings: `SEMSR_…` variables that override those of the environment.
        command: Arguments of Python, which can run another module in place of the service.
        timeout_s: Longest wait for readiness.
    """
    variables = {"SEMSR_BUNDLE": str(bundle), **settings}
    with running_server(variables, command=command, timeout_s=timeout_s) as server:
        tile = raw_request(load_bundle(bundle))
        yield Target(server.url, address_of(server.url), server.pid, tile)


def chosen_engine(bundle: Path, settings: dict[str, str]) -> EngineChoice:
    """Return the engine and the precision that the service chooses for a bundle."""
    with running_service(bundle, settings) as target:
        return target.engine()


def online_budget_ms(default_ms: float) -> float:
    """Return the latency budget of the environment, or else a default."""
    given = os.environ.get(BUDGET_VARIABLE)
    return float(given) if given else default_ms
