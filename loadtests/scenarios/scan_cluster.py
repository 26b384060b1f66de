"""A scan on Ray clusters of this machine: its speed, equal outputs, and the loss of a node."""

import argparse
import csv
import json
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from loadtests.alone.scan import start_scan, write_noise
from loadtests.machine import describe_machine
from loadtests.results import Column, Result, Row

_COLUMNS = [
    Column("name", "Where"),
    Column("seconds", "seconds, workers' start included"),
    Column("tiles_per_s", "tiles/s"),
    Column("done", "done"),
    Column("outputs", "outputs"),
    Column("computed", "tiles of the second run"),
]
_TILE_PX = (240, 240)
_STORE_BYTES = 80 << 20


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--tiles", type=int, default=2000, help="npy tiles of noise")
    parser.add_argument(
        "--nodes",
        type=int,
        nargs="+",
        default=[1, 2, 4],
        help="sizes of clusters, one CPU a node; the largest loses a node in a further run",
    )
    parser.add_argument("--scratch", type=Path, help="folder for lot and outputs")


def run(options: argparse.Namespace) -> Result:
    """Scan with engine `identity` in one process, on clusters, and on one that loses a node.

    Raises:
        RuntimeError: Ray is not installed, or a scan did not complete.
    """
    try:
        import ray.cluster_utils  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise RuntimeError(f"{error}; run it by make bench-scan-cluster") from error
    bundle, tiles, nodes = options.bundle, options.tiles, options.nodes
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="semsr-cluster-", dir=options.scratch) as name:
        folder = Path(name)
        write_noise(folder / "lot", tiles, _TILE_PX)
        alone, expected = _scan(bundle, folder, "alone", [])
        del alone["computed"]
        rows: list[Row] = [{"name": "one process", **alone}]
        rows += [_on_cluster(bundle, folder, count, expected, loses=False) for count in nodes]
        if max(nodes) > 1:
            rows.append(_on_cluster(bundle, folder, max(nodes), expected, loses=True))
    settings = {"engine": "identity", "tiles": tiles, "nodes": nodes}
    notes = [
        "Nodes are processes of one machine, a CPU each: the table shows that the outputs are the "
        "same and what Ray costs, not how a cluster scales.",
    ]
    return Result("scan-cluster", machine, settings, _COLUMNS, rows, notes)


def _on_cluster(
    bundle: Path, folder: Path, count: int, expected: dict[str, str], *, loses: bool
) -> Row:
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    small: dict[str, Any] = {"object_store_memory": _STORE_BYTES}
    cluster = Cluster(
        initialize_head=True, head_node_args={**small, "num_cpus": 0, "include_dashboard": False}
    )
    try:
        nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(count)]
        name = f"{count} {'node' if count == 1 else 'nodes'}"
        if loses:
            name += ", one killed half-way"
            out = folder / name
            threading.Thread(
                target=_when_half_way,
                args=(
                    out,
                    len(expected) // 2,
                    lambda: cluster.remove_node(nodes[-1], allow_graceful=False),
                ),
                daemon=True,
            ).start()
        more = ["--cluster", cluster.address, "--worker-cpus", "1"]
        row, outputs = _scan(bundle, folder, name, more)
        same = "identical" if outputs == expected else "DIFFERENT"
        again, _ = _scan(bundle, folder, name, more)
        shutil.rmtree(folder / name)
        return {"name": name, **row, "outputs": same, "computed": again["computed"]}
    finally:
        cluster.shutdown()


def _when_half_way(out: Path, count: int, action: Any) -> None:  # noqa: ANN401
    while not out.is_dir() or sum(1 for _ in out.glob("*.npy")) < count:
        time.sleep(0.05)
    action()


def _scan(bundle: Path, folder: Path, name: str, more: list[str]) -> tuple[Row, dict[str, str]]:
    """Run `semsr scan`; returns its figures, and the SHA-256 of every output."""
    out = folder / name
    process = start_scan(bundle, "identity", folder / "lot", out, more)
    stdout, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the scan on {name} ended with {process.returncode}: {stdout!r}")
    [row] = json.loads(stdout)
    with (out / "manifest.csv").open(newline="") as file:
        hashes = {line["output"]: line["output_sha256"] for line in csv.DictReader(file)}
    kept = {key: row[key] for key in ("seconds", "tiles_per_s", "done", "computed")}
    return kept, hashes
