"""A Ray cluster on machines of `tests.machines`, and scans that are started on its console."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from tests.cluster_engines import LOG
from tests.machines import ROOT, Machine, Network, wait_until

_PORT, _CLIENT_PORT = 6379, 10_001
_PROCESS = ROOT / "tests" / "cluster_process.py"
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
        options = ["--head", "--port", _PORT, "--ray-client-server-port", _CLIENT_PORT]
        self._start_ray(self.head, *options, "--num-cpus", 0, "--include-dashboard", "false")
        for port in (_PORT, _CLIENT_PORT):
            wait_until(lambda port=port: self._listens(port), seconds=180, what=f"port {port}")

    def ready(self) -> None:
        """Start workers until two are there, and wait for them and for no others."""
        self.workers = [worker for worker in self.workers if worker.is_running]
        while len(self.workers) < 2:
            machine = self.net.machine(self.net.next_name("worker"), [self.shared])
            self._start_ray(machine, "--address", f"{self.head.address}:{_PORT}", "--num-cpus", 1)
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
        address = f"ray://{cluster.head.address}:{_CLIENT_PORT}"
        self._process = cluster.console.start(
            sys.executable, _PROCESS, cluster.shared / "lot", self.sink, address, self.work,
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
