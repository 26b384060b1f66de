"""Lots for the tests of scans, a scan run in this process, and how to read what it wrote."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from semsr.cluster.scan import run_cluster_scan
from semsr.scan import run_scan
from semsr.scan_report import ScanReport
from service.scans.options import ScanRequest
from service.settings import Settings

TINY_BUNDLE = Path(__file__).parent / "data" / "tiny_bundle"
TILE_PX = 24
SCALE = 4


def numbered_tile(index: int) -> npt.NDArray[np.uint8]:
    """A tile whose first two pixels say which it is."""
    tile = np.random.default_rng(index).integers(0, 256, (TILE_PX, TILE_PX), dtype=np.uint8)
    tile[0, :2] = divmod(index, 256)
    return tile


def write_lot(folder: Path, count: int) -> list[npt.NDArray[np.uint8]]:
    """Write numbered tiles as npy."""
    folder.mkdir(parents=True)
    tiles = [numbered_tile(index) for index in range(count)]
    for index, tile in enumerate(tiles):
        np.save(folder / f"t{index:05d}.npy", tile)
    return tiles


def enlarged(tile: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What the identity engine makes of a tile."""
    return tile.repeat(SCALE, axis=-2).repeat(SCALE, axis=-1)


def settings(**changes: Any) -> Settings:
    """Settings of a scan by the identity engine."""
    return Settings(
        **{"bundle": TINY_BUNDLE, "engine": "identity", "cache_dir": None, "threads": 1, **changes}
    )


def scan(source: object, sink: object, **options: Any) -> ScanReport:
    """Run a scan with a CSV manifest, its journal beside a local sink.

    Args:
        source: Path or URL.
        sink: Path or URL.
        options: `resume`, `overwrite`, `verify`, `work`, `settings` and `engine_loader`
            as `run_scan`, `cluster` and `worker_cpus` as `run_cluster_scan`, or those of a
            `ScanRequest`.
    """
    names = ("resume", "overwrite", "verify", "engine_loader", "cluster", "worker_cpus")
    own = {name: options.pop(name) for name in names if name in options}
    work = options.pop("work", None) or Path(f"{sink}.scan")
    chosen = options.pop("settings", None) or settings()
    request = ScanRequest(
        source=str(source), sink=str(sink), **{"manifest": "csv", "patience_s": 1.0, **options}
    )
    if "cluster" in own:
        return run_cluster_scan(request, settings=chosen, work=work, **own)
    return run_scan(request, settings=chosen, work=work, **own)


def manifest(path: object) -> list[dict[str, str]]:
    """Read a CSV manifest."""
    with Path(str(path)).open(newline="") as file:
        return list(csv.DictReader(file))


def outputs(folder: Path) -> dict[str, bytes]:
    """Read every file of a sink but the manifest."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("manifest.")
    }
