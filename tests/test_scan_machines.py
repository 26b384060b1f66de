"""Scans over machines that share neither memory nor processes, while one of them is lost.

The machines are namespaces, see `tests.machines`: a head, two workers, and a console where the
command runs. Only the programs, source and sink are shared, as docs/scans.md asks for; the journal
is on the console. `make test-ray` runs these tests where namespaces are permitted: mostly for root.
"""

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

import pytest

from tests.cluster_engines import LOG
from tests.machines import ROOT, Machine, Network, missing_permission, network, wait_until
from tests.scans import manifest, outputs, scan, write_lot

pytest.importorskip("ray", reason="Ray is not in this environment: make test-ray")
_MISSING = missing_permission()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING)),
]

TILES = 1500
# Tiles that a worker has in flight: three tables of 64, and one that waits for it in Ray Data.
IN_FLIGHT = 4 * 64
# Tiles that each worker has computed when a machine is lost.
BEFORE = 100
PORT, CLIENT_PORT = 6379, 10_001
PROCESS = ROOT / "tests" / "cluster_process.py"
_RAY = Path(sys.executable).with_name("ray")
_ALIVE = """
import ray
ray.init("auto", log_to_driver=False)
print(*(node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]))
"""


class Cluster:
    """Machines with Ray, and a console."""

    def __init__(self, net: Network, folder: Path) -> None:
        """Start the head and the console.

        Args:
            net: The network.
            folder: Empty folder.
        """
        self.net = net
        self.shared, self.own, self._logs = (folder / name for name in ("shared", "own", "logs"))
        for made in (self.shared, self.own, self._logs):
            made.mkdir()
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SEMSR_LOG_LEVEL": "warning",
            "RAY_USAGE_STATS_ENABLED": "0",
            # By default, Ray's workers give way to everything else that this machine does.
            "RAY_worker_niceness": "0",
            # A client's server is a process of its own, which takes its time on a busy machine.
            "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "120",
            LOG: str(self.shared / "computed-{host}.log"),
        }
        self.head = net.machine("head", [self.shared])
        self.console = net.machine("console", [self.shared, self.own])
        self.workers: list[Machine] = []
        options = ["--head", "--port", PORT, "--ray-client-server-port", CLIENT_PORT]
        self._start_ray(self.head, *options, "--num-cpus", 0, "--include-dashboard", "false")
        for port in (PORT, CLIENT_PORT):
            wait_until(lambda port=port: self._listens(port), seconds=180, what=f"port {port}")

    def ready(self) -> None:
        """Start workers until two are there, and wait for them and for no others."""
        self.workers = [worker for worker in self.workers if worker.is_running]
        while len(self.workers) < 2:
            machine = self.net.machine(self.net.next_name("worker"), [self.shared])
            self._start_ray(machine, "--address", f"{self.head.address}:{PORT}", "--num-cpus", 1)
            self.workers.append(machine)
        wanted = {self.head.name, *(worker.name for worker in self.workers)}
        command = self.head.command(sys.executable, "-c", _ALIVE)

        def alive() -> set[str]:
            found = subprocess.run(command, env=self.env, capture_output=True, text=True)
            return set(found.stdout.split())

        wait_until(lambda: alive() == wanted, seconds=240, what=f"the machines {wanted}")

    @property
    def is_lost(self) -> bool:
        """Whether its head was lost."""
        return not self.head.is_running

    def num_computed(self, machine: Machine) -> int:
        """Count the tiles that a worker has computed."""
        log = self.shared / f"computed-{machine.name}.log"
        return len(log.read_text().split()) if log.exists() else 0

    def computed(self) -> Counter[int]:
        """Count how often each tile was computed since the last call."""
        found: Counter[int] = Counter()
        for log in self.shared.glob("computed-*.log"):
            found.update(map(int, log.read_text().split()))
            log.unlink()
        return found

    def _start_ray(self, machine: Machine, *options: object) -> None:
        own = ["--node-ip-address", machine.address, "--object-store-memory", 80 << 20]
        with (self._logs / machine.name).open("w") as log:
            machine.start(
                _RAY, "start", "--block", "--disable-usage-stats", *own, *options,
                env=self.env, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def _listens(self, port: int) -> bool:
        program = f"import socket; socket.create_connection(({self.head.address!r}, {port}), 2)"
        command = self.console.command(sys.executable, "-c", program)
        return subprocess.run(command, capture_output=True).returncode == 0


class RunningScan:
    """A scan that was started on the console.

    Attributes:
        sink: Its sink.
        work: Its work folder, which only the console has.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.sink = cluster.shared / name
        self.work = cluster.own / name
        self._lines: list[tuple[float, str]] = []
        address = f"ray://{cluster.head.address}:{CLIENT_PORT}"
        self._process = cluster.console.start(
            sys.executable, PROCESS, cluster.shared / "lot", self.sink, address, self.work,
            env=cluster.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self) -> str:
        """Wait for the end; returns the summary."""
        assert self._process.stdout is not None
        said = self._process.stdout.read()
        assert 0 == self._process.wait(60), self._lines
        self._reader.join(60)
        return said

    def wait_line(self, start: str, *, seconds: float) -> float:
        """Wait for a line on stderr; returns when it came, on the clock `time.monotonic`."""

        def found() -> list[float]:
            return [at_s for at_s, line in self._lines if line.startswith(start)]

        wait_until(found, seconds=seconds, what=f"the line {start!r} in {self._lines}")
        return found()[0]

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append((time.monotonic(), line.rstrip("\n")))


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
    """Start a scan, and wait until both workers have computed some tiles."""
    running = RunningScan(cluster, name)
    for worker in cluster.workers:
        wait_until(
            lambda worker=worker: cluster.num_computed(worker) >= BEFORE,
            seconds=240,
            what=f"{BEFORE} tiles by {worker.name}",
        )
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
    check_complete(cluster, running, tmp_path)
    computed = cluster.computed()
    assert set(range(TILES)) == set(computed)
    assert computed.total() <= TILES + IN_FLIGHT
    with capsys.disabled():
        times = f"noticed after {noticed_s - lost_s:.0f} s, scan over after {over_s - lost_s:.0f} s"
        sys.stdout.write(f"\na machine is {way}: {times}, ")
        sys.stdout.write(f"{computed.total() - TILES} tiles computed twice\n")
    # It comes back too late: Ray ends it, and it changes nothing.
    if way == "cut off":
        cluster.net.plug(lost)
        lost.close()


def test_a_killed_console_resumes(tmp_path: Path, cluster: Cluster) -> None:
    """The machine of the command is lost; a scan on another one continues with its journal.

    Meanwhile the workers go on for half a minute, and nothing records what they compute.
    """
    running = begin(cluster, "resumed")
    cluster.console.kill()
    with contextlib.closing(sqlite3.connect(running.work / "journal.sqlite")) as journal:
        counts = journal.execute("SELECT count(*) FROM tiles WHERE status = 'done'").fetchall()
    [(recorded,)] = counts
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
