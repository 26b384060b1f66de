"""Throughput compared with nginx and with the engine alone, as `semsr bench` measures it."""

import argparse
from pathlib import Path

from bundle_format.bundle import load_bundle
from loadtests.clients import TileLoad
from loadtests.machine import describe_machine
from loadtests.model_turns import compare_with_engine
from loadtests.nginx_turns import compare_with_nginx
from loadtests.results import Column, Result, Row
from loadtests.target import MODES
from semsr.progress import progress

ROUNDS = 6
_COLUMNS = [
    Column("name", "What"),
    Column("engine", "Engine"),
    Column("tiles_per_s", "tiles/s"),
    Column("p50_ms", "p50, ms"),
    Column("p99_ms", "p99, ms"),
    Column("percent", "% of yardstick: median"),
    Column("low_percent", "lower quartile"),
    Column("high_percent", "upper quartile"),
    Column("turns", "Turns"),
    Column("yardstick", "Yardstick"),
    Column("errors", "Errors"),
    Column("mib", "MiB"),
]
_PERCENTS = {"ratio": "percent", "ratio_low": "low_percent", "ratio_high": "high_percent"}


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--seconds",
        type=float,
        default=15.0,
        help="length of each measurement in seconds, its six turns together",
    )
    parser.add_argument("--connections", type=int, default=16, help="requests in flight")


def run(options: argparse.Namespace) -> Result:
    """Run every measurement; the page shows ratios in percent."""
    machine = describe_machine()
    rows = measure(options.bundle, seconds=options.seconds, connections=options.connections)
    for row in rows:
        row.update(
            {percent: 100 * row[share] for share, percent in _PERCENTS.items() if share in row}
        )
    settings = {
        "bundle": options.bundle.name,
        "seconds": options.seconds,
        "connections": options.connections,
    }
    return Result("throughput", machine, settings, _COLUMNS, rows)


def measure(bundle: Path, *, seconds: float, connections: int) -> list[Row]:
    """Run every measurement of `semsr bench`.

    Compared cases take short turns, so that drift of the machine affects both. A ratio is the
    median over the turns, with their quartiles. In each mode of the service it measures:

    - throughput of the real model through HTTP against the engine alone in a loop, raw;
    - the same with PNG in and out, against the limit of the summed processor time of codec and
      engine;
    - one request at a time: latency against the engine's own time for one tile;
    - memory of all the service's processes after these measurements;
    - throughput of engine `identity` through HTTP against nginx serving as many bytes.

    Args:
        bundle: Bundle to serve.
        seconds: Length of each measurement, all of its turns together; longer where a turn would
            see too few answers of a slow model.
        connections: Connections of the throughput measurements.

    Returns:
        Rows with `name`, the measured figure and, where there is one, `ratio` to its `yardstick`.
    """
    load = TileLoad(load_bundle(bundle), connections, seconds / ROUNDS)
    with progress("bench", ROUNDS * (1 + 4 * len(MODES)), unit="turn") as steps:
        steps.say("the service and its engine")
        rows = compare_with_engine(load, ROUNDS, steps.update)
        steps.say("the service without a model, and nginx")
        return [*rows, *compare_with_nginx(load, ROUNDS, steps.update)]
