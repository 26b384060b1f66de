"""Throughput beside its yardsticks: what `semsr bench` measures, as a result for the page."""

from pathlib import Path

from loadtests.machine import describe_machine
from loadtests.results import Column, Result
from semsr.bench.runs import run_bench

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


def run(bundle: Path, *, seconds: float, connections: int) -> Result:
    """Run `semsr bench`.

    Args:
        bundle: What is served.
        seconds: Length of each measurement, in all turns.
        connections: Requests under way.
    """
    machine = describe_machine()
    rows = run_bench(bundle=bundle, seconds=seconds, connections=connections)
    for row in rows:
        for share, percent in _PERCENTS.items():
            if share in row:
                row[percent] = 100 * row[share]
    settings = {"bundle": bundle.name, "seconds": seconds, "connections": connections}
    return Result("throughput", machine, settings, _COLUMNS, rows)
