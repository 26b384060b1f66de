"""A nightly scan beside what cores and disk allow: npy without a model, PNG with the real one."""

import tempfile
from pathlib import Path

from loadtests.images import file, wafer
from loadtests.machine import describe_machine
from loadtests.results import Column, Result, Row
from semsr.bench.scan import bench_scan

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


def run(bundle: Path, *, engine: str, tiles: int, pictures: int, scratch: Path | None) -> Result:
    """Run `semsr bench scan` twice.

    Args:
        bundle: Of the real model.
        engine: Its engine; the other lot takes `identity`.
        tiles: npy tiles of noise.
        pictures: PNG tiles of lines under grain.
        scratch: Folder on the disk to be measured; None takes the system's temporary one.
    """
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
        "promises, so that the share is given with it in the yardstick too.",
    ]
    return Result("scan", machine, settings, _COLUMNS, rows, notes)


def _readable(row: Row) -> Row:
    more: Row = {}
    if "ratio" in row:
        more["percent"] = 100 * row["ratio"]
    if "core_ms" in row:
        more["stages"] = ", ".join(f"{name} {ms:.2f}" for name, ms in row["core_ms"].items())
    return more
