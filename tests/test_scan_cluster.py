"""Scans over Ray clusters of several nodes in this machine; `make test-ray` runs them."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semsr.cli import main
from service.scans.errors import ScanError
from tests.cluster_engines import LOG, POISON, load_faulty, load_noting, load_once, load_poisoned
from tests.scans import (
    TINY_BUNDLE,
    enlarged,
    manifest,
    numbered_tile,
    outputs,
    scan,
    settings,
    write_lot,
)

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# By default, Ray's workers give way to everything else that this machine does.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (Ray's own name)
# A client's server is a process of its own, which takes its time on a busy machine.
os.environ["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "120"
os.environ["RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S"] = "60"
os.environ["RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S"] = "120"
ray = pytest.importorskip("ray", reason="Ray is not in this environment: make test-ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")
pytestmark = [
    pytest.mark.slow,
    # Ray's own: it leaves sockets and files to the end of the process.
    pytest.mark.filterwarnings("default"),
]

ROOT = Path(__file__).resolve().parents[1]
PROCESS = Path(__file__).with_name("cluster_process.py")
CLIENT_PORT = 23_801
CLIENT = f"ray://127.0.0.1:{CLIENT_PORT}"
# Tiles that a worker has under way: three tables of the size that so few tiles get.
UNDER_WAY = 3 * 64
Nodes = list[Any]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of a head, on which nothing is computed, and one node of one CPU."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(LOG, str(tmp_path / "computed.log"))
    small = {"object_store_memory": 80 << 20, "include_dashboard": False}
    running = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={**small, "num_cpus": 0, "ray_client_server_port": CLIENT_PORT},
    )
    try:
        running.add_node(num_cpus=1, object_store_memory=80 << 20)
        yield running
    finally:
        ray.shutdown()
        running.shutdown()


def add_nodes(cluster, count: int) -> Nodes:
    """Add nodes of one CPU each."""
    return [cluster.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(count)]


def when_done(sink: Path, count: int, action: Callable[[], object]) -> threading.Thread:
    """Do something once so many tiles are recorded."""

    def watch() -> None:
        journal = sink.with_name(f"{sink.name}.scan") / "journal.sqlite"
        while num_recorded(journal) < count:
            time.sleep(0.05)
        action()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def num_recorded(path: Path) -> int:
    """Tiles that a journal says are done; only reads, so that nobody else's work is held up."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            [(count,)] = database.execute("SELECT count(*) FROM tiles WHERE status = 'done'")
    except sqlite3.Error:
        return 0  # it is not there yet, or being made
    return count


def comparable(path: object) -> list[dict[str, str]]:
    """The rows of a manifest without the time that each took."""
    return [
        {key: value for key, value in row.items() if key != "milliseconds"}
        for row in manifest(path)
    ]


def test_any_number_of_nodes_gives_what_one_process_gives(tmp_path: Path, cluster) -> None:
    """1, 2 and 4 nodes, reached both ways: the same files, the same manifest."""
    write_lot(tmp_path / "lot" / "die1", 150)
    (tmp_path / "lot" / "die1" / "t00003.json").write_text('{"lot": "L7", "pixel_size_nm": 4}')
    (tmp_path / "lot" / "bad.png").write_bytes(b"no picture")
    local = scan(tmp_path / "lot", tmp_path / "local")
    expected = outputs(tmp_path / "local")

    for nodes, address in ((1, cluster.address), (2, CLIENT), (4, cluster.address)):
        add_nodes(cluster, nodes // 2)
        sink = tmp_path / f"out{nodes}"
        report = scan(tmp_path / "lot", sink, cluster=address, worker_cpus=1)
        assert (local.counts, None) == (report.counts, report.ended_by)
        assert expected == outputs(sink)
        assert comparable(local.manifest) == comparable(report.manifest)

    # One process goes on where the cluster stopped: it is the same journal.
    (tmp_path / "out4" / "die1" / "t00007_x4.npy").unlink()
    again = scan(tmp_path / "lot", tmp_path / "out4")
    assert (1, expected) == (again.lost, outputs(tmp_path / "out4"))


@pytest.mark.parametrize("scheme", ["", "local://"])
def test_a_klarf_file_gives_what_one_process_gives(tmp_path: Path, cluster, scheme: str) -> None:
    """Images of TIFF files, names with a pattern, and the copy with the results.

    `local://` counts as an object store: every worker copies the TIFF file.
    """
    tifffile = pytest.importorskip("tifffile")
    tiles = np.stack([numbered_tile(index) for index in range(80)])
    (tmp_path / "lot").mkdir()
    tifffile.imwrite(tmp_path / "lot" / "lot.tif", tiles, photometric="minisblack")
    rows = "\n".join(f"{index} 1 1 {index} 0" for index in range(1, 81, 2))
    source = tmp_path / "lot" / "lot.klarf"
    source.write_text(
        "FileVersion 1 2;\nLotID L7;\nTiffFileName lot.tif;\n"
        f"DefectRecordSpec 3 DEFECTID IMAGECOUNT IMAGELIST;\nDefectList\n{rows};\nEndOfFile;"
    )
    names = {"name_pattern": "{tool}/*"}
    local = scan(source, tmp_path / "local", **names)

    report = scan(
        f"{scheme}{source}", tmp_path / "out", cluster=cluster.address, worker_cpus=1, **names
    )

    assert (40, local.counts, None) == (report.counts.done, report.counts, report.ended_by)
    assert outputs(tmp_path / "local") == outputs(tmp_path / "out")
    assert comparable(local.manifest) == comparable(report.manifest)
    assert {("L7", "lot")} == {(row["lot"], row["tool"]) for row in manifest(report.manifest)}


def test_a_real_engine_and_a_stack(tmp_path: Path, cluster) -> None:
    """At most one grey level apart from one process; shards of one stack by two workers."""
    pytest.importorskip("zarr")
    add_nodes(cluster, 1)
    write_lot(tmp_path / "lot", 100)
    chosen = settings(engine="onnx")
    scan(tmp_path / "lot", tmp_path / "local", settings=chosen)

    files = scan(
        tmp_path / "lot", tmp_path / "out", settings=chosen, cluster=cluster.address, worker_cpus=1
    )
    assert files.is_complete
    for index in range(100):
        name = f"t{index:05d}_x4.npy"
        one = np.load(tmp_path / "local" / name).astype(int)
        assert np.abs(one - np.load(tmp_path / "out" / name)).max() <= 1

    scan(tmp_path / "lot", tmp_path / "local.zarr")
    stack = scan(tmp_path / "lot", tmp_path / "out.zarr", cluster=cluster.address, worker_cpus=1)
    assert stack.is_complete
    assert outputs(tmp_path / "local.zarr") == outputs(tmp_path / "out.zarr")


def test_a_lost_node_loses_nothing(
    tmp_path: Path, cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half-way one of two nodes goes; what it had under way is done again, and no more."""
    [second] = add_nodes(cluster, 1)
    tiles = write_lot(tmp_path / "lot", 600)
    sink = tmp_path / "out"
    lost = when_done(sink, 200, lambda: cluster.remove_node(second, allow_graceful=False))

    report = scan(
        tmp_path / "lot", sink, cluster=cluster.address, worker_cpus=1, engine_loader=load_noting
    )

    lost.join(60)
    assert not lost.is_alive()
    assert (600, True) == (report.counts.done, report.is_complete)
    for index, tile in enumerate(tiles):
        np.testing.assert_array_equal(enlarged(tile), np.load(sink / f"t{index:05d}_x4.npy"))
    assert [] == list(sink.rglob("*.semsr-part"))
    computed = Counter(int(line) for line in Path(os.environ[LOG]).read_text().split())
    assert set(range(600)) == set(computed)
    assert computed.total() <= 600 + UNDER_WAY
    # Ray tells of the lost node; stdout is for results.
    assert "" == capsys.readouterr().out


def test_a_killed_scan_resumes(tmp_path: Path, cluster) -> None:
    """SIGKILL for the process with the journal: what it recorded is not computed again."""
    write_lot(tmp_path / "lot", 300)
    scan(tmp_path / "lot", tmp_path / "undisturbed")
    sink = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, PROCESS, tmp_path / "lot", sink, cluster.address], cwd=ROOT
    )
    when_done(sink, 60, process.kill).join(300)
    assert -9 == process.wait(60)
    recorded = num_recorded(tmp_path / "out.scan" / "journal.sqlite")
    assert 60 <= recorded < 300
    before = Path(os.environ[LOG]).read_text().split()

    report = scan(
        tmp_path / "lot", sink, cluster=cluster.address, worker_cpus=1, engine_loader=load_noting
    )

    assert (300 - recorded, True) == (report.computed, report.is_complete)
    assert outputs(tmp_path / "undisturbed") == outputs(sink)
    after = Path(os.environ[LOG]).read_text().split()
    # The killed run's workers may have gone on for a moment.
    assert len(after) - len(before) <= 300 - recorded + UNDER_WAY


def test_a_lost_head_ends_the_scan(
    tmp_path: Path, cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so and waits for no other cluster; one process goes on where it ended."""
    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "5")
    write_lot(tmp_path / "lot", 300)
    sink = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, PROCESS, tmp_path / "lot", sink, CLIENT],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    head = cluster.head_node
    when_done(
        sink, 60, lambda: head.kill_all_processes(check_alive=False, allow_graceful=False)
    ).join(300)

    said, _ = process.communicate(timeout=300)

    assert "stopped early: the connection to the cluster is lost" in said
    recorded = num_recorded(tmp_path / "out.scan" / "journal.sqlite")
    report = scan(tmp_path / "lot", sink)
    assert (300 - recorded, True) == (report.computed, report.is_complete)


def test_a_tile_that_ends_its_worker_is_recorded(tmp_path: Path, cluster) -> None:
    """It fails, its neighbours do not, and the scan goes on."""
    write_lot(tmp_path / "lot", 100)

    report = scan(
        tmp_path / "lot",
        tmp_path / "out",
        cluster=cluster.address,
        worker_cpus=1,
        engine_loader=load_poisoned,
    )

    assert (99, 1, None) == (report.counts.done, report.counts.failed, report.ended_by)
    [(name, reason)] = report.failures
    assert f"t{POISON:05d}.npy" == name
    assert "its worker ended in each of 3 tries" in reason


def test_a_fault_of_a_worker_is_told_by_its_name(
    tmp_path: Path, cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once to who watches, and in the row of the tile that shows it each time."""
    write_lot(tmp_path / "lot", 100)

    report = scan(
        tmp_path / "lot",
        tmp_path / "out",
        cluster=cluster.address,
        worker_cpus=1,
        engine_loader=load_faulty,
    )

    assert (99, 1, None) == (report.counts.done, report.counts.failed, report.ended_by)
    [(name, reason)] = report.failures
    assert f"t{POISON:05d}.npy" == name
    assert "not finished in 3 tries, a worker's fault: " in reason
    assert "KeyError: 'a fault of the code'" in reason
    assert 1 == capsys.readouterr().err.count("KeyError: 'a fault of the code'")


def test_what_the_cluster_cannot_do_is_said_at_once(
    tmp_path: Path, cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """No room for a worker, no engine: an error that says so, and nothing is written."""
    write_lot(tmp_path / "lot", 3)
    with pytest.raises(ScanError, match=r"no machine .* room for a worker \(7 CPUs, 0 GPUs\)"):
        scan(tmp_path / "lot", tmp_path / "out", cluster=cluster.address, worker_cpus=7)
    with pytest.raises(ScanError, match=r"no engine on the cluster: .*openvino"):
        scan(
            tmp_path / "lot",
            tmp_path / "out",
            cluster=cluster.address,
            worker_cpus=1,
            settings=settings(engine="openvino"),
        )
    assert not (tmp_path / "out").exists()
    report = scan(
        tmp_path / "lot",
        tmp_path / "out",
        cluster=cluster.address,
        worker_cpus=1,
        engine_loader=load_once,
    )
    assert 0 == report.counts.done
    assert "there is one licence" in str(report.ended_by)
    arguments = ["scan", str(tmp_path / "lot"), str(tmp_path / "out"), "--engine", "identity"]
    code = main([*arguments, "--bundle", str(TINY_BUNDLE), "--cluster", "127.0.0.1:1"])
    assert 0 != code
    assert "the cluster 127.0.0.1:1 cannot be reached" in capsys.readouterr().err
