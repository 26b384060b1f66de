"""Our modes, nginx and other serving products, with one model and the same clients.

All servers are measured in turn in one run. nginx is measured first and last: the difference shows
the drift of the machine, and shares of nginx refer to the mean of both.
"""

import argparse
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bundle_format.bundle import load_bundle
from loadtests.clients import by_each_client
from loadtests.exchange import Address, TileRequest
from loadtests.machine import describe_machine
from loadtests.nginx import ANSWER_PATH, nginx_path, running_nginx
from loadtests.peers.catalog import PEERS, Peer
from loadtests.peers.environments import InstallError, ensure_environment
from loadtests.peers.running import PeerError, running_peer
from loadtests.results import Column, Result, Row, write_figure
from loadtests.target import MODES, running_service
from loadtests.tile_request import raw_request
from loadtests.wrk import is_installed as has_wrk
from semsr.progress import tracked

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


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--seconds",
        type=float,
        default=8.0,
        help="length of each measurement in seconds, after a warm-up of a quarter of it",
    )
    parser.add_argument("--connections", type=int, default=16, help="requests in flight")
    parser.add_argument("--peer", nargs="+", default=[], help="some of the products only")


def run(options: argparse.Namespace) -> Result:
    """Measure all servers with the bundle's tile.

    Raises:
        ValueError: The bundle's model is not 240×240 and ×4, as the peers' is.
    """
    machine = describe_machine()
    bundle = load_bundle(options.bundle)
    if (bundle.manifest.tile, bundle.manifest.scale) != ((240, 240), 4):
        raise ValueError(
            f"{options.bundle} has tiles of {bundle.manifest.tile} and scale "
            f"{bundle.manifest.scale}; the peers enlarge (240, 240) by 4"
        )
    measurement = _Measurement(options.bundle, options.seconds, options.connections)
    peers = [peer for peer in PEERS if not options.peer or peer.name in options.peer]
    total = 2 + len(MODES) + len(peers)
    rows = list(tracked(measurement.rows(peers), "peers", total=total, unit="server"))
    _add_ratios(rows)
    settings = {
        "connections": options.connections,
        "seconds": options.seconds,
        "wrk": "1 thread" if has_wrk() else "not installed",
    }
    notes = [
        "Every server answered one tile with the right 921,600 bytes before it was measured. "
        "Shares and ratios are of wrk's figures, where wrk is installed."
    ]
    return Result("peers", machine, settings, _COLUMNS, rows, notes)


class _Measurement:
    """The same clients and the same tile for every server."""

    def __init__(self, bundle: Path, seconds: float, connections: int) -> None:
        self._bundle = bundle
        self._seconds = seconds
        self._connections = connections
        self._tile = raw_request(load_bundle(bundle))
        grey = np.frombuffer(self._tile.body, dtype=np.uint8).reshape(240, 240)
        self._expected = grey.repeat(4, axis=0).repeat(4, axis=1).tobytes()

    def rows(self, peers: list[Peer]) -> Iterator[Row]:
        """Measure nginx, our modes, the peers, and nginx again."""
        yield self._nginx("nginx, the same bytes from a file")
        for mode, settings in MODES.items():
            settings = {**settings, "SEMSR_ENGINE": "identity"}
            with running_service(self._bundle, settings) as target:
                yield {"name": f"{_OURS}{mode}", **self._load(target.address, target.tile)}
        for peer in peers:
            yield {"name": peer.title, "version": peer.version(), **self._peer(peer)}
        yield self._nginx("nginx again")

    def _nginx(self, name: str) -> Row:
        if nginx_path() is None:
            return {"name": name, "problem": "nginx is not installed"}
        with running_nginx(self._expected) as address:
            return {"name": name, **self._load(address, replace(self._tile, path=ANSWER_PATH))}

    def _peer(self, peer: Peer) -> Row:
        tile = self._tile.body
        try:
            environment = ensure_environment(peer)
            with running_peer(peer, environment, tile=tile, expected=self._expected) as running:
                address, answer_bytes = running
                headers, body = peer.request(tile)
                return self._load(address, TileRequest(peer.path, body, headers, answer_bytes))
        except subprocess.CalledProcessError as error:
            return {"problem": f"a client failed on it with exit code {error.returncode}"}
        except (InstallError, PeerError) as error:
            return {"problem": str(error)}

    def _load(self, address: Address, tile: TileRequest) -> Row:
        loads = by_each_client(
            address,
            tile,
            connections=self._connections,
            seconds=self._seconds,
            warm_up_s=self._seconds / 4,
        )
        row: Row = {}
        for client, load in loads.items():
            row |= {
                f"{client}_per_s": load.per_second,
                f"{client}_p50_ms": load.percentile_ms(0.5),
                f"{client}_p99_ms": load.percentile_ms(0.99),
            }
        return {**row, "errors": sum(load.errors for load in loads.values())}


def headline(row: Row) -> float | None:
    """Return a row's throughput by wrk, or else by our client; None if it has neither."""
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
