"""Our modes, nginx and other serving products, with one model, one client, the same connections.

Everything runs in turn in one run. nginx is measured first and last: how far the two lie apart is
how far the machine drifted, and every share of nginx is of their mean.
"""

import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bundle_format.bundle import load_bundle
from loadtests.machine import describe_machine
from loadtests.peers.catalog import PEERS, RAW, Peer
from loadtests.peers.environments import InstallError, ensure_environment
from loadtests.peers.running import PeerError, running_peer
from loadtests.results import Column, Result
from loadtests.target import PATH, golden_tile, running_service
from semsr.bench import wrk
from semsr.bench.figures import write_figure
from semsr.bench.load import LoadResult, run_load
from semsr.bench.modes import service_modes
from semsr.bench.nginx import nginx_path, running_nginx
from semsr.progress import tracked

Row = dict[str, Any]

_COLUMNS = [
    Column("name", "Server"),
    Column("version", "Version"),
    Column("wrk_per_s", "tiles/s by wrk", 0),
    Column("wrk_p50_ms", "p50, ms"),
    Column("wrk_p99_ms", "p99, ms"),
    Column("own_per_s", "tiles/s by our client", 0),
    Column("own_p50_ms", "p50, ms"),
    Column("own_p99_ms", "p99, ms"),
    Column("nginx_percent", "% of nginx", 0),
    Column("our_ratio", "semsr `single` is … times as fast", 2),
    Column("errors", "Errors"),
    Column("problem", "Not measured because"),
]
_OURS = "semsr, "


def run(bundle: Path, *, seconds: float, connections: int, names: list[str]) -> Result:
    """Measure them all.

    Args:
        bundle: Of our service; its tile is what everybody gets.
        seconds: Length of each measurement, after a warm-up of a quarter of it.
        connections: Requests under way.
        names: Of the peers; none means all.

    Raises:
        ValueError: The bundle's model is not 240×240 and ×4, as the peers' is.
    """
    machine = describe_machine()
    manifest = load_bundle(bundle).manifest
    if (manifest.tile, manifest.scale) != ((240, 240), 4):
        raise ValueError(
            f"{bundle} has tiles of {manifest.tile} and scale {manifest.scale}; the peers enlarge "
            "(240, 240) by 4"
        )
    client = _Client(golden_tile(load_bundle(bundle)).body, seconds, connections)
    peers = [peer for peer in PEERS if not names or peer.name in names]
    modes = service_modes()
    total = 2 + len(modes) + len(peers)
    rows: list[Row] = list(
        tracked(_measure(bundle, client, peers, modes), "peers", total=total, unit="server")
    )
    _add_ratios(rows)
    settings = {
        "connections": connections,
        "seconds": seconds,
        "wrk": "1 thread" if wrk.is_installed() else "not installed",
    }
    notes = [
        "Every server answered one tile with the right 921,600 bytes before it was measured. "
        "Shares and ratios are of wrk's figures, where wrk is installed."
    ]
    return Result("peers", machine, settings, _COLUMNS, rows, notes)


def _measure(
    bundle: Path, client: "_Client", peers: list[Peer], modes: dict[str, dict[str, str]]
) -> Iterator[Row]:
    yield _nginx(client, "nginx, the same bytes from a file")
    for mode, settings in modes.items():
        with running_service(bundle, {**settings, "SEMSR_ENGINE": "identity"}) as target:
            figures = client.load(
                target.address, PATH, target.tile.headers, target.tile.body, len(client.expected)
            )
        yield {"name": f"{_OURS}{mode}", **figures}
    for peer in peers:
        yield _peer(client, peer)
    yield _nginx(client, "nginx again")


def _nginx(client: "_Client", name: str) -> Row:
    if nginx_path() is None:
        return {"name": name, "problem": "nginx is not installed"}
    with running_nginx(client.expected) as address:
        return {"name": name, **client.load(address, "/answer", RAW, client.tile, None)}


def _peer(client: "_Client", peer: Peer) -> Row:
    try:
        environment = ensure_environment(peer)
        with running_peer(peer, environment, tile=client.tile, expected=client.expected) as (
            address,
            answer_bytes,
        ):
            headers, body = peer.request(client.tile)
            figures = client.load(address, peer.path, headers, body, answer_bytes)
    except subprocess.CalledProcessError as error:
        problem = f"a client failed on it with exit code {error.returncode}"
        return {"name": peer.title, "version": peer.version(), "problem": problem}
    except (InstallError, PeerError) as error:
        return {"name": peer.title, "version": peer.version(), "problem": str(error)}
    return {"name": peer.title, "version": peer.version(), **figures}


class _Client:
    """The same clients for everybody."""

    def __init__(self, tile: bytes, seconds: float, connections: int) -> None:
        self.tile = tile
        grey = np.frombuffer(tile, dtype=np.uint8).reshape(240, 240)
        self.expected = grey.repeat(4, axis=0).repeat(4, axis=1).tobytes()
        self._seconds = seconds
        self._connections = connections

    def load(
        self,
        address: tuple[str, int],
        path: str,
        headers: dict[str, str],
        body: bytes,
        answer_bytes: int | None,
    ) -> Row:
        """Measure with our own client and, where it is installed, with wrk."""
        own = run_load(
            address,
            path=path,
            body=body,
            headers=headers,
            connections=self._connections,
            seconds=self._seconds,
            expected_bytes=len(self.expected) if answer_bytes is None else answer_bytes,
            warm_up_s=self._seconds / 4,
        )
        row = _figures("own", own)
        errors = own.errors
        if wrk.is_installed():
            by_wrk = wrk.run_wrk(
                address,
                path=path,
                body=body,
                headers=headers,
                connections=self._connections,
                seconds=self._seconds,
            )
            row |= _figures("wrk", by_wrk)
            errors += by_wrk.errors
        return {**row, "errors": errors}


def _figures(client: str, load: LoadResult) -> Row:
    return {
        f"{client}_per_s": load.per_second,
        f"{client}_p50_ms": load.percentile_ms(0.5),
        f"{client}_p99_ms": load.percentile_ms(0.99),
    }


def headline(row: Row) -> float | None:
    """A row's throughput: by wrk where it was measured so, else by our client; None without."""
    return row.get("wrk_per_s", row.get("own_per_s"))


def _add_ratios(rows: list[Row]) -> None:
    """Add each server's share of nginx, and how many times as fast ours is."""
    speeds = {row["name"]: speed for row in rows if (speed := headline(row))}
    measured = [speed for name, speed in speeds.items() if name.startswith("nginx")]
    nginx = statistics.mean(measured) if measured else None
    ours = speeds.get(f"{_OURS}single")
    for row in rows:
        speed = headline(row)
        if not speed:
            continue
        if nginx:
            row["nginx_percent"] = 100 * speed / nginx
        if ours and not row["name"].startswith(_OURS):
            row["our_ratio"] = ours / speed


def _colour(name: str) -> str:
    if name.startswith(_OURS):
        return "tab:orange"
    return "tab:grey" if name.startswith("nginx") else "tab:blue"


def draw(result: Result, path: Path) -> None:
    """Draw the throughput of all that was measured as bars, to a PNG."""
    from matplotlib.figure import Figure

    rows = [row for row in result.rows if headline(row)]
    rows.sort(key=lambda row: headline(row) or 0.0)
    figure = Figure(figsize=(8, 0.45 * len(rows) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(
        [row["name"] for row in rows],
        [headline(row) or 0.0 for row in rows],
        color=[_colour(row["name"]) for row in rows],
    )
    axes.bar_label(bars, fmt="%.0f", padding=3)
    connections = result.settings["connections"]
    axes.set_xlabel(f"tiles/s (57.6 kB in, 921.6 kB out), {connections} connections, one host")
    axes.margins(x=0.1)
    write_figure(figure, path)
