"""Scans over machines that share neither memory nor processes, while one of them is lost.

The machines are namespaces, see `tests.machines`: a head, two workers, and a console where the
command runs. Only the programs, source and sink are shared, as docs/scans.md asks for; the journal
is on the console. `make test-ray` runs these tests where namespaces are permitted: mostly for root.
"""

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine_cluster import Cluster, RunningScan
from tests.machines import Machine, missing_permission, network, wait_until
from tests.scans import manifest, outputs, scan, write_lot

pytest.importorskip("ray", reason="Ray is not in this environment: make test-ray")
_MISSING = missing_permission()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING)),
]

TILES = 1500
# Tiles that a worker has in flight: three tables.
IN_FLIGHT = 3 * 64
# Tiles that each worker has at least computed when a machine is lost.
BEFORE = 20


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Cluster]]:
    """A cluster with two workers; the same one as before, unless its head was lost."""
    with contextlib.ExitStack() as stack:
        made: list[Cluster] = []

        def ready() -> Cluster:
            if not made or made[-1].is_lost:
                folder = tmp_path_factory.mktemp("cluster")
                net = stack.enter_context(network(folder / "mounts"))
                made.append(Cluster(net, folder))
                write_lot(made[-1].shared / "lot", TILES)
            made[-1].ready()
            return made[-1]

        yield ready


@pytest.fixture
def cluster(clusters: Callable[[], Cluster]) -> Cluster:
    """A cluster with two workers that has computed nothing for this test."""
    found = clusters()
    found.computed()
    return found


def begin(cluster: Cluster, name: str) -> RunningScan:
    """Start a scan, and wait until both workers compute and some tiles are recorded."""
    # Otherwise, the first worker might be done before the second has started.
    cluster.slow.touch()
    running = RunningScan(cluster, name)

    def computes() -> bool:
        return running.num_recorded() > 0 and all(
            cluster.num_computed(worker) >= BEFORE for worker in cluster.workers
        )

    wait_until(computes, seconds=400, what=f"{BEFORE} tiles by each worker")
    cluster.slow.unlink()
    return running


def check_complete(cluster: Cluster, running: RunningScan, folder: Path) -> None:
    """Compare a scan with one of a single process, and its journal with its outputs."""
    local = scan(cluster.shared / "lot", folder / "local")
    assert outputs(folder / "local") == outputs(running.sink)
    assert [] == list(running.sink.rglob("*.semsr-part"))
    rows = [manifest(path / "manifest.csv") for path in (folder / "local", running.sink)]
    for row in (*rows[0], *rows[1]):
        del row["milliseconds"]
    assert rows[0] == rows[1]
    assert {"done"} == {row["status"] for row in rows[1]}
    assert TILES == len({row["source"] for row in rows[1]}) == local.counts.done
    with contextlib.closing(sqlite3.connect(running.work / "journal.sqlite")) as journal:
        assert [("ok",)] == journal.execute("PRAGMA integrity_check").fetchall()
        counts = journal.execute("SELECT status, count(*) FROM tiles GROUP BY status").fetchall()
    assert [("done", TILES)] == counts
    # Another run with the same journal reads every output and finds nothing to do.
    again = scan(cluster.shared / "lot", running.sink, work=running.work, verify=True)
    assert (0, 0, True) == (again.computed, again.lost, again.is_complete)


@pytest.mark.parametrize("way", ["killed", "cut off"])
def test_a_lost_machine_loses_nothing(
    tmp_path: Path, cluster: Cluster, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its processes killed; or its link cut: no connection is closed, and it computes on."""
    lost = cluster.workers[1]
    running = begin(cluster, way.replace(" ", "-"))
    lost_s = time.monotonic()
    lost.kill() if way == "killed" else cluster.net.cut(lost)

    noticed_s = running.wait_line(f"machine {lost.name} ({lost.address}) is lost", seconds=240)
    said = running.wait()
    over_s = time.monotonic()

    assert f"{TILES} tiles: {TILES} done, 0 failed, 0 pending" in said
    if way == "cut off":
        cluster.net.plug(lost)  # too late: Ray ends its workers, and nothing changes
    check_complete(cluster, running, tmp_path)
    lost.close()
    computed = cluster.computed()
    assert set(range(TILES)) == set(computed)
    assert computed.total() <= TILES + IN_FLIGHT
    with capsys.disabled():
        times = f"noticed after {noticed_s - lost_s:.0f} s, scan over after {over_s - lost_s:.0f} s"
        sys.stdout.write(f"\na machine is {way}: {times}, ")
        sys.stdout.write(f"{computed.total() - TILES} tiles computed twice\n")


def test_a_killed_console_resumes(tmp_path: Path, cluster: Cluster) -> None:
    """The machine of the command is lost; a scan on another one continues with its journal.

    Meanwhile the workers go on for half a minute, and nothing records what they compute.
    """
    running = begin(cluster, "resumed")
    cluster.console.kill()
    recorded = running.num_recorded()
    assert 0 < recorded < TILES
    cluster.console = cluster.net.machine("console2", [cluster.shared, cluster.own])

    said = RunningScan(cluster, "resumed").wait()

    assert f"{TILES} tiles: {TILES} done, 0 failed, 0 pending" in said
    assert f"this run: {TILES - recorded} tiles" in said
    check_complete(cluster, running, tmp_path)


def test_a_head_that_vanishes_ends_the_scan(
    tmp_path: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """No connection to it is closed; one process completes the scan with the same journal."""
    running = begin(cluster, "headless")
    lost_s = time.monotonic()
    cluster.net.cut(cluster.head)

    said = running.wait()

    with capsys.disabled():
        sys.stdout.write(f"\nthe head is cut off: over after {time.monotonic() - lost_s:.0f} s\n")
    assert "stopped early: the connection to the cluster is lost" in said
    cluster.head.kill()
    for worker in cluster.workers:
        worker.close()
    report = scan(cluster.shared / "lot", running.sink, work=running.work)
    assert report.is_complete
    assert report.computed < TILES
    check_complete(cluster, running, tmp_path)


def test_machines_share_only_what_they_are_given(tmp_path: Path) -> None:
    """Files, processes, names and links of a machine; a killed one is gone as a whole."""
    shared = tmp_path / "shared"
    shared.mkdir()
    with network(tmp_path / "mounts") as net:
        one, two = (net.machine(name, [shared]) for name in ("one", "two"))

        def run(machine: Machine, command: str) -> str:
            return subprocess.run(
                machine.command("sh", "-c", command), capture_output=True, text=True
            ).stdout

        write = f"hostname; echo 1 > /tmp/own; echo 1 > /dev/shm/own; echo 1 > {shared}/both"
        assert "one\n" == run(one, write)
        assert "both\n" == run(two, f"cat /tmp/own /dev/shm/own; ls {shared}")
        assert not Path("/tmp/own").exists()  # noqa: S108 (the folder itself)
        assert len(run(two, "ls -d /proc/[0-9]*").split()) < 6

        server = one.start(sys.executable, "-m", "http.server", "8000", stderr=subprocess.DEVNULL)
        program = "import socket; socket.create_connection(('one', 8000), 1)"

        def reaches() -> bool:
            command = two.command(sys.executable, "-c", program)
            return subprocess.run(command, capture_output=True).returncode == 0

        wait_until(reaches, seconds=30, what="the server")
        net.cut(one)
        assert not reaches()
        net.plug(one)
        wait_until(reaches, seconds=30, what="the server again")
        one.kill()
        assert 0 != server.wait(10)
        assert not reaches()
