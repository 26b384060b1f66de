"""Parts that the processes of a pool have in common: supervisor link, tasks and metrics."""

import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from service.pool import snapshots
from service.pool.arena import Arena
from service.pool.channel import Channel, connect, pack_packet
from service.pool.child_config import EngineConfig, FrontEndConfig, to_argument
from service.pool.control import Failed, Joined, Message, pack, parse

log = structlog.get_logger()

PUBLISH_PERIOD_S = 1.0


class SupervisorLink:
    """A child's connection to its supervisor; the child ends when the supervisor ends."""

    def __init__(
        self,
        address: str,
        name: str,
        *,
        on_lost: Callable[[], None],
        on_message: Callable[[Message], None] = lambda _: None,
    ) -> None:
        """Connect and join.

        Args:
            address: Address of the supervisor.
            name: Name of this process.
            on_lost: Callback for the end of the supervisor.
            on_message: Callback with each of its messages.

        Raises:
            OSError: The supervisor is gone already.
        """
        self._channel = Channel(
            connect(address),
            on_message=lambda content: on_message(parse(content)),
            on_close=on_lost,
        )
        self.send(Joined(name))

    def send(self, message: Message) -> None:
        """Send a message."""
        self._channel.send(pack(message))

    def close(self) -> None:
        """Disconnect from the supervisor."""
        self._channel.close()


@contextlib.contextmanager
def bound_to_supervisor(address: str, *, code: int) -> Generator[None]:
    """Within the block, end this process at once when the supervisor ends.

    The block is for loading, which may take minutes and runs without an event loop, and so without
    a `SupervisorLink`. The next service needs the memory and the cores.

    Args:
        address: Address of the supervisor.
        code: Exit code.

    Raises:
        OSError: The supervisor is gone already.
    """
    is_over = threading.Event()
    with connect(address) as connection:
        connection.setblocking(True)

        def wait() -> None:
            with contextlib.suppress(OSError):
                connection.recv(1)
            if not is_over.is_set():
                os._exit(code)

        watcher = threading.Thread(target=wait, name="supervisor-watch", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            watcher.join()


def report_failure(address: str, name: str, reason: str) -> None:
    """Report to the supervisor why this process ends before it was ready."""
    with contextlib.suppress(OSError), connect(address) as connection:
        connection.send(pack_packet([pack(Failed(name, reason[:2000]))]))


def python_command(module: str, config: EngineConfig | FrontEndConfig) -> list[str]:
    """Return the command that runs a module of this installation with a configuration."""
    return [sys.executable, "-m", module, to_argument(config)]


class Background:
    """Tasks in the background; use it on one event loop."""

    def __init__(self, on_fault: Callable[[BaseException], None]) -> None:
        """Begin without tasks.

        Args:
            on_fault: Callback with the exception of a task.
        """
        self._on_fault = on_fault
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work in a task of its own."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def cancel(self) -> None:
        """Cancel every task."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_fault(error)


class Publisher:
    """Writes the metrics of a process into its row, with its predecessor's counters added."""

    def __init__(self, arena: Arena, row: int, registry: CollectorRegistry) -> None:
        """Read the counters of the predecessor from the row.

        Args:
            arena: The pool's shared memory.
            row: Row of the arena.
            registry: Metrics of this process.
        """
        self._arena = arena
        self._row = row
        self._registry = registry
        self._before = snapshots.counters_only(snapshots.parse(arena.read_snapshot(row)))

    def publish(self) -> None:
        """Write the present metrics."""
        families = self._registry.collect()
        if self._before:
            families = snapshots.merge([self._before, families])
        try:
            self._arena.write_snapshot(self._row, snapshots.pack(families))
        except ValueError as error:
            log.error("metrics_not_published", error=str(error))  # noqa: TRY400

    async def run(self) -> None:
        """Publish until the task is cancelled."""
        while True:
            self.publish()
            await asyncio.sleep(PUBLISH_PERIOD_S)


def collect(arena: Arena) -> list[Any]:
    """Return the metrics of all processes."""
    rows = range(arena.geometry.snapshots)
    return snapshots.merge(snapshots.parse(arena.read_snapshot(row)) for row in rows)


def drop_state(arena: Arena, row: int) -> None:
    """Remove the gauges of a process that has died; its counters stay."""
    counters = snapshots.counters_only(snapshots.parse(arena.read_snapshot(row)))
    with contextlib.suppress(ValueError):
        arena.write_snapshot(row, snapshots.pack(counters))
