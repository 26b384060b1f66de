"""Connects to a Ray cluster, or starts a local one, and counts the workers that fit on it."""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from engines.cpu import available_cpus
from service.scans.errors import ScanError
from service.scans.extras import load_extra
from service.settings import Settings

# The store holds rows only: this is far more than a scan has in flight.
_LOCAL_STORE_BYTES = 256 << 20
_CONNECT_S = 10.0
# Ray starts a server process for each client; on a busy machine that takes a minute.
_LONGEST_START_S = 180.0


@dataclass(frozen=True)
class WorkerSize:
    """Resources of a worker.

    Attributes:
        cpus: CPUs, at least 1.
        gpus: GPUs, 0 or 1.
    """

    cpus: int
    gpus: int

    def __str__(self) -> str:
        return f"{self.cpus} CPUs, {self.gpus} GPUs"


@contextlib.contextmanager
def connected(address: str) -> Generator[Any]:
    """Connect to a cluster.

    Args:
        address: `ray://HOST:10001` from anywhere, `HOST:6379` or `auto` on a machine of the
            cluster, `local` for one that is started here and ends with the scan.

    Yields:
        The module `ray`.

    Raises:
        ScanError: The cluster cannot be reached.
        MissingExtraError: Ray is not installed.
    """
    # Set before the import, which reads them: Ray sends no usage statistics, and a call after the
    # connection is lost does not search for another cluster indefinitely, or start one.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    ray = load_extra("ray", purpose="a scan over a cluster", extra="ray")
    _check_listening(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {
            "include_dashboard": False,
            "num_cpus": available_cpus(),
            "object_store_memory": _LOCAL_STORE_BYTES,
        }
    # Ray reports events of its nodes on stdout, which is for results.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            if address.startswith("ray://"):
                _connect_client(ray, address, options)
            else:
                ray.init(address, **options)
        except Exception as error:  # ConnectionError, RuntimeError, ValueError, gRPC's own
            raise ScanError(f"the cluster {address} cannot be reached: {error}") from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _connect_client(ray: Any, address: str, options: dict[str, Any]) -> None:
    """Call `ray.init` with a time limit, since it never returns if its server dies meanwhile.

    Raises:
        TimeoutError: It has not returned in time.
        Exception: Any error of `ray.init`.
    """
    raised: list[Exception] = []

    def init() -> None:
        try:
            ray.init(address, **options)
        except Exception as error:  # raised again below, in the calling thread
            raised.append(error)

    thread = threading.Thread(target=init, daemon=True)
    thread.start()
    thread.join(_LONGEST_START_S)
    if thread.is_alive():
        raise TimeoutError(
            f"it has not answered for {_LONGEST_START_S:g} s; ray_client_server.err on its head "
            "may say why"
        )
    if raised:
        raise raised[0]


def _check_listening(address: str) -> None:
    """Check within seconds that a server listens at an address; Ray would take minutes.

    Raises:
        ScanError: No server listens at the address.
    """
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator:
        return  # `local`, `auto`, or no address at all, which Ray refuses
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise ScanError(f"the cluster {address} cannot be reached: {error}") from error


def worker_size(nodes: list[dict[str, Any]], settings: Settings, cpus: int | None) -> WorkerSize:
    """Choose the resources of a worker: a GPU where the engine computes on one, else only CPUs.

    Args:
        nodes: Machines, see `ray.nodes`.
        settings: Device and threads.
        cpus: CPUs that the user asked for. None takes the settings' threads, else the share of a
            worker on the smallest machine.

    Raises:
        ScanError: No machine has enough resources.
    """
    gpus = 1 if settings.device.startswith("cuda") else 0
    if cpus is None and not gpus:
        cpus = settings.threads
    if cpus is None:
        resources = [_resources(node) for node in nodes]
        shares = [
            int(node_cpus // (node_gpus if gpus else 1))
            for node_cpus, node_gpus in resources
            if node_cpus >= 1 and node_gpus >= gpus
        ]
        cpus = max(1, min(shares, default=1))
    size = WorkerSize(cpus, gpus)
    if not count_places(nodes, size):
        found = [f"{node_cpus:g} CPUs and {g:g} GPUs" for node_cpus, g in map(_resources, nodes)]
        raise ScanError(
            f"no machine of the cluster has room for a worker ({size}); it has {', '.join(found)}"
        )
    return size


def count_places(nodes: list[dict[str, Any]], size: WorkerSize) -> int:
    """Count the workers that fit on the machines that are alive."""
    places = 0
    for cpus, gpus in map(_resources, nodes):
        most = cpus // size.cpus
        places += int(min(most, gpus // size.gpus) if size.gpus else most)
    return places


def _resources(node: dict[str, Any]) -> tuple[float, float]:
    """CPUs and GPUs of a machine; zero for a lost one."""
    if not node["Alive"]:
        return 0.0, 0.0
    return node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)
