"""Reaches a Ray cluster, or starts one on this machine, and counts what it has room for."""

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

# Rows only: this is far more than a scan has under way.
_LOCAL_STORE_BYTES = 256 << 20
_CONNECT_S = 10.0
# A client's server is a process of its own; on a busy machine it takes a minute.
_LONGEST_START_S = 180.0


@dataclass(frozen=True)
class WorkerSize:
    """What a worker takes of its machine.

    Attributes:
        cpus: At least 1.
        gpus: 0 or 1.
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
        ScanError: It cannot be reached.
        MissingExtraError: Ray is not installed.
    """
    # Before the import, which reads them: nothing is reported to anybody, and a call after the
    # connection is lost does not look for another cluster, for ever, or start one.
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
    # Ray tells on stdout what happens to its nodes; that is for results.
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
    """Call `ray.init`, which waits for ever for a server that dies while it starts.

    Raises:
        TimeoutError: It has not returned.
        Exception: What it raised.
    """
    raised: list[Exception] = []

    def init() -> None:
        try:
            ray.init(address, **options)
        except Exception as error:  # for the one who waits
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
    """Find out in seconds that nobody listens there; Ray itself takes minutes to say so.

    Raises:
        ScanError: Nobody does.
    """
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator:
        return  # `local`, `auto`, or no address at all, which Ray refuses
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise ScanError(f"the cluster {address} cannot be reached: {error}") from error


def worker_size(nodes: list[dict[str, Any]], settings: Settings, cpus: int | None) -> WorkerSize:
    """Decide what a worker takes: a GPU where the engine computes on one, else CPUs alone.

    Args:
        nodes: See `ray.nodes`.
        settings: Device and threads.
        cpus: Asked for, or None: the settings' threads, else what the smallest machine has for
            each of its workers.

    Raises:
        ScanError: No machine has so many.
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
    """Count the workers that the machines that are there have room for."""
    places = 0
    for cpus, gpus in map(_resources, nodes):
        most = cpus // size.cpus
        places += int(min(most, gpus // size.gpus) if size.gpus else most)
    return places


def _resources(node: dict[str, Any]) -> tuple[float, float]:
    """CPUs and GPUs of a machine; none of one that is gone."""
    if not node["Alive"]:
        return 0.0, 0.0
    return node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)
