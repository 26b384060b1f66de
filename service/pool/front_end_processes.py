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
"""Partitions beyond one for each front end: that of a front end that has died rests for a while."""


class FrontEndProcesses:
    """The front ends.

    Attributes:
        children: Their places.
    """

    def __init__(
        self,
        arena: Arena,
        listeners: Sequence[socket.socket],
        *,
        supervisor: str,
        first_snapshot: int,
        on_failed: Callable[[str], None],
    ) -> None:
        """Prepare the places; their processes are started by `Child.run`.

        Args:
            arena: The pool's shared memory.
            listeners: Listening socket of each.
            supervisor: Address of the supervisor.
            first_snapshot: First row of the arena for their metrics.
            on_failed: Callback with the reason why one cannot be kept running.
        """
        self._arena = arena
        self._listeners = listeners
        self._supervisor = supervisor
        self._first_snapshot = first_snapshot
        self._on_failed = on_failed
        self._partitions = deque(range(len(listeners) + SPARE_PARTITIONS))
        self.children = [self._make_child(index) for index in range(len(listeners))]

    def find(self, name: str) -> Child | None:
        """Return the place of the process with a name."""
        return next((child for child in self.children if child.name == name), None)

    def kill_hanging(self, timeout_s: float) -> None:
        """Kill processes that hang: while they start, or silent for longer than the time limit."""
        for child in self.children:
            child.kill_hanging_start(timeout_s)
            silent_s = time.monotonic() - child.heard_s
            if child.is_ready and silent_s > timeout_s:
                log.error("front_end_hangs", child=child.name, seconds=round(silent_s, 1))
                child.signal(signal.SIGKILL)

    def close_listeners(self) -> None:
        """Reject new connections from now on."""
        for listener in self._listeners:
            listener.close()

    def _make_child(self, index: int) -> Child:
        name, snapshot = f"front-{index}", self._first_snapshot + index
        listener_fd = self._listeners[index].fileno()
        partitions: list[int] = []

        def command() -> list[str]:
            # The one that has rested longest: what an engine may still write for the process that
            # died goes to its old one.
            partitions.append(self._partitions.popleft())
            config = FrontEndConfig(
                name=name,
                arena_fd=self._arena.fd,
                listener_fd=listener_fd,
                supervisor=self._supervisor,
                partition=partitions[-1],
                snapshot=snapshot,
            )
            return python_command("service.front_end", config)

        def on_end() -> None:
            partition = partitions.pop()
            self._arena.free_partition(partition)
            self._partitions.append(partition)
            drop_state(self._arena, snapshot)

        return Child(
            name=name,
            command=command,
            fds=(self._arena.fd, listener_fd),
            on_end=on_end,
            on_failed=self._on_failed,
            ready=asyncio.get_running_loop().create_future(),
        )
