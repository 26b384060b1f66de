"""The front ends of a pool: one for each listening socket, each with its partition of the arena."""

import asyncio
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from service.pool.arena import Arena
from service.pool.child_config import FrontEndConfig
from service.pool.children import Child
from service.pool.processes import drop_state, python_command

log = structlog.get_logger()

SPARE_PARTITIONS = 2
"""Spare partitions, so that the partition of a dead front end is not reused at once."""


def make_front_ends(
    arena: Arena,
    listeners: Sequence[socket.socket],
    *,
    supervisor: str,
    first_snapshot: int,
    frees_memory: bool,
    on_failed: Callable[[str], bool],
) -> list[Child]:
    """Make the places of the front ends; `Child.run` starts their processes.

    Args:
        arena: The pool's shared memory.
        listeners: Listening socket of each.
        supervisor: Address of the supervisor.
        first_snapshot: First row of the arena for their metrics.
        frees_memory: Whether the memory of a dead one goes back to the system. Engines on a GPU
            have locked its pages, and would write to pages that no process reads any more.
        on_failed: Callback with the reason why one cannot be kept running; see `Child`.
    """
    free = deque(range(len(listeners) + SPARE_PARTITIONS))

    def make(index: int, listener_fd: int) -> Child:
        name, snapshot = f"front-{index}", first_snapshot + index
        partition = -1

        def command() -> list[str]:
            nonlocal partition
            # The one that has rested longest: what an engine may still write for the process that
            # died goes to its old one.
            partition = free.popleft()
            config = FrontEndConfig(name, arena.fd, listener_fd, supervisor, partition, snapshot)
            return python_command("service.front_end", config)

        def on_end() -> None:
            if frees_memory:
                arena.free_partition(partition)
            free.append(partition)
            drop_state(arena, snapshot)

        return Child(
            name=name,
            command=command,
            fds=(arena.fd, listener_fd),
            on_end=on_end,
            on_failed=on_failed,
            ready=asyncio.get_running_loop().create_future(),
        )

    return [make(index, listener.fileno()) for index, listener in enumerate(listeners)]


def kill_hanging(fronts: Sequence[Child], timeout_s: float) -> None:
    """Kill front ends that take too long to start, or are silent for too long."""
    for child in fronts:
        child.kill_hanging_start(timeout_s)
        silent_s = time.monotonic() - child.heard_s
        if child.is_ready and silent_s > timeout_s:
            log.error("front_end_hangs", child=child.name, seconds=round(silent_s, 1))
            child.signal(signal.SIGKILL)
