"""A nightly scan and the limits of cores and disk: npy without a model, PNG with the real one."""

import argparse
import tempfile
from pathlib import Path

from loadtests.alone.scan import bench_scan
from loadtests.images import file, wafer
from loadtests.machine import describe_machine
from loadtests.results import Column, Result, Row

_COLUMNS = [
    Column("lot", "Lot"),
    Column("name", "What"),
    Column("tiles_per_s", "tiles/s"),
    Column("stages", "Core time of a tile, ms"),
    Column("percent", "% of yardstick"),
    Column("yardstick", "Yardstick, the lower of cores and disk"),
    Column("mib", "MiB at most", 0),
    Column("growth_mib", "MiB more than at tile 1,000"),
]


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--engine", default="auto", help="engine of the real model (default: the fastest)"
    )
    parser.add_argument(
        "--tiles", type=int, default=20_000, help="npy tiles of noise, without a model"
    )
    parser.add_argument(
        "--pictures", type=int, default=500, help="PNG tiles of lines, with the real model"
    )
    parser.add_argument("--scratch", type=Path, help="folder on the disk to be measured")


def run(options: argparse.Namespace) -> Result:
    """Run `semsr bench scan` twice."""
    bundle, engine, scratch = options.bundle, options.engine, options.scratch
    tiles, pictures = options.tiles, options.pictures
    machine = describe_machine()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="semsr-lot-", dir=scratch) as folder:
        lot = Path(folder)
        for index in range(pictures):
            (lot / f"t{index:06d}.png").write_bytes(file(wafer(index), "png")[0])
        for words, count, name, source in (
            (f"{tiles:,} npy, no model", tiles, "identity", None),
            (f"{pictures:,} PNG, {bundle.name} by {engine}", pictures, engine, lot),
        ):
            measured = bench_scan(bundle, engine=name, lot=source, tiles=count, scratch=scratch)
            rows += [{"lot": words, **row, **_readable(row)} for row in measured]
    settings = {"bundle": bundle.name, "engine": engine, "tiles": tiles, "pictures": pictures}
    notes = [
        "The core time of decode, engine and encode is what a tile needs without a scan; a scan "
        "also reads, hashes, writes and records it. SHA-256 of input and output is work that it "
        "promises, so that the share is also given with it in the baseline.",
    ]
    return Result("scan", machine, settings, _COLUMNS, rows, notes)


def _readable(row: Row) -> Row:
    more: Row = {}
    if "ratio" in row:
        more["percent"] = 100 * row["ratio"]
    if "core_ms" in row:
        more["stages"] = ", ".join(f"{name} {ms:.2f}" for name, ms in row["core_ms"].items())
    return more
