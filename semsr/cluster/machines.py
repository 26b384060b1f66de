"""Reports machines of the cluster that are lost or that join during a scan."""

import sys
from typing import Any

from tqdm import tqdm


class Machines:
    """The machines of a cluster that were alive at the last look."""

    def __init__(self) -> None:
        self._alive: dict[str, str] | None = None

    def look(self, nodes: list[dict[str, Any]]) -> None:
        """Print a line to stderr for every machine that is lost or that has joined.

        The first look prints nothing.

        Args:
            nodes: Machines, see `ray.nodes`.
        """
        alive = _alive(nodes)
        known = alive if self._alive is None else self._alive
        for node_id in known.keys() - alive.keys():
            _print(f"machine {known[node_id]} is lost; its tiles in flight are computed again")
        for node_id in alive.keys() - known.keys():
            _print(f"machine {alive[node_id]} has joined the cluster; the next round uses it")
        self._alive = alive


def _alive(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """Return name and address of each machine that is alive, by its id."""
    return {
        node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in nodes
        if node["Alive"]
    }


def _print(line: str) -> None:
    tqdm.write(line, file=sys.stderr)  # above the progress bar, if there is one
