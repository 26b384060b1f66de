"""Machines for tests: groups of processes in namespaces of their own, with a network between them.

    switch (a network namespace with a bridge)
      ├── 10.77.0.1  head       each machine has its own network, /tmp, /dev/shm, processes, IPC
      ├── 10.77.0.2  worker1    and host name; the programs and the folders that a test names are
      └── …                     shared

The host's network is not touched, and nothing remains when the tests' process ends in any way: the
first process of each machine ends with its input, and everything in the machine ends with it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_INIT = Path(__file__).with_name("machine_init.py")
_UNSHARE = [
    "unshare", "--net", "--mount", "--pid", "--ipc", "--uts",
    "--fork", "--kill-child", "--mount-proc",
]  # fmt: skip
_ENTER = ["nsenter", "--net", "--mount", "--pid", "--ipc", "--uts", "--target"]


def missing_permission() -> str | None:
    """Return the reason for which this process cannot make machines, or None if it can."""
    try:
        subprocess.run([*_UNSHARE, "true"], check=True, capture_output=True, text=True)
        # A bridge in a namespace of its own, gone with the command.
        bridge = ["ip", "link", "add", "probe", "type", "bridge"]
        subprocess.run(["unshare", "--net", *bridge], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        return f"{error.filename} is not installed (util-linux, iproute2)"
    except subprocess.CalledProcessError as error:
        return f"namespaces are not permitted here: {error.stderr.strip()}"
    return None


class Machine:
    """One machine, see `Network.machine`.

    Attributes:
        name: Host name.
        address: IP address.
    """

    def __init__(self, name: str, address: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.address = address
        self._process = process
        self._started: list[subprocess.Popen[str]] = []
        # `unshare` has one child, the first process of the new namespaces.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        [self.pid] = map(int, children.read_text().split())

    @property
    def is_running(self) -> bool:
        """Whether it has neither been killed nor ended."""
        return self._process.poll() is None

    def command(self, *command: object) -> list[str]:
        """Return the command that runs a command inside the machine."""
        return [*_ENTER, str(self.pid), "--", *map(str, command)]

    def start(self, *command: object, **options: Any) -> subprocess.Popen[str]:
        """Start a process inside the machine; see `subprocess.Popen` for `options`."""
        started = subprocess.Popen(self.command(*command), text=True, **options)
        self._started.append(started)
        return started

    def kill(self) -> None:
        """End all processes at once by SIGKILL; the kernel removes the machine's network too."""
        os.kill(self.pid, signal.SIGKILL)
        for process in (self._process, *self._started):
            process.wait(60)

    def close(self) -> None:
        """End all processes, where `kill` has not."""
        if self.is_running:
            self.kill()
        for process in (self._process, *self._started):
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


class Network:
    """A switch and its machines."""

    def __init__(self, folder: Path) -> None:
        """Start the switch.

        Args:
            folder: Empty folder of the test, for the mounts.
        """
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._hosts = folder / "hosts"
        self._hosts.write_text("127.0.0.1 localhost\n")
        self._machines: list[Machine] = []
        self._switch = self._begin("switch")
        self._in_switch("ip", "link", "add", "bridge", "type", "bridge")
        self._in_switch("ip", "link", "set", "bridge", "up")

    def machine(self, name: str, shared: Sequence[Path]) -> Machine:
        """Start a machine and plug it in.

        Args:
            name: Host name.
            shared: Folders of the host that the machine sees, in addition to the programs.
        """
        number = len(self._machines) + 1
        address = f"10.77.0.{number}"
        # All machines see the same file, those that are there already too.
        with self._hosts.open("a") as hosts:
            hosts.write(f"{address} {name}\n")
        machine = self._begin(name, address, shared)
        self._machines.append(machine)
        port = f"port{number}"
        pair = ["type", "veth", "peer", "name", "eth0", "netns", str(machine.pid)]
        self._in_switch("ip", "link", "add", port, *pair)
        self._in_switch("ip", "link", "set", port, "master", "bridge")
        self._in_switch("ip", "link", "set", port, "up")
        for setting in (
            ["address", "add", f"{machine.address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            # It leads nowhere, but programs find their own address by it.
            ["route", "add", "default", "dev", "eth0"],
        ):
            subprocess.run(machine.command("ip", *setting), check=True)
        return machine

    def next_name(self, kind: str) -> str:
        """Return a host name that no machine has had: `kind` and a number."""
        return f"{kind}{len(self._machines) + 1}"

    def cut(self, machine: Machine) -> None:
        """Unplug a machine; none of its connections is closed."""
        self._in_switch("ip", "link", "set", self._port(machine), "down")

    def plug(self, machine: Machine) -> None:
        """Plug a machine in that was cut."""
        self._in_switch("ip", "link", "set", self._port(machine), "up")

    def close(self) -> None:
        """End all machines."""
        for machine in [*self._machines, self._switch]:
            machine.close()

    def _port(self, machine: Machine) -> str:
        return f"port{self._machines.index(machine) + 1}"

    def _in_switch(self, *command: str) -> None:
        # Not in its namespace of processes: `ip` finds a machine by its process id here.
        target = f"--target={self._switch.pid}"
        subprocess.run(["nsenter", "--net", target, "--", *command], check=True)

    def _begin(self, name: str, address: str = "", shared: Sequence[Path] = ()) -> Machine:
        stage = self._folder / name
        stage.mkdir(parents=True)
        programs = [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
        process = subprocess.Popen(
            [*_UNSHARE, sys.executable, _INIT, name, stage, self._hosts, *programs, *shared],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the machine {name} has not started: {process.communicate()[1]}")
        return Machine(name, address, process)


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """A network that ends with the context."""
    made = Network(folder)
    try:
        yield made
    finally:
        made.close()


def wait_until(condition: Callable[[], object], *, seconds: float, what: str) -> float:
    """Wait until a function returns a true value.

    Returns:
        Seconds that it took.

    Raises:
        TimeoutError: It took longer than `seconds`.
    """
    start_s = time.monotonic()
    while not condition():
        if time.monotonic() - start_s > seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
    return time.monotonic() - start_s
