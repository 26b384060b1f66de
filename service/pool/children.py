"""The processes that a supervisor starts: places that one process after the other fills."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class LoadError(Exception):
    """A model could not be loaded."""


@dataclass(eq=False)
class Child:
    """One place that a process fills, and another one after it.

    Attributes:
        name: Name of the processes, for the log.
        command: Makes a process's arguments.
        fds: File descriptors that it inherits.
        on_end: Called when a process has ended.
        is_wanted: Whether it is started anew.
        is_ready: Whether the process that runs now said that it is ready.
        on_failed: Told why, when its processes cannot be kept running.
        ready: Settled when the first one is, or cannot be.
        heard_s: `time.monotonic()` when it last said something.
    """

    name: str
    command: Callable[[], list[str]]
    fds: tuple[int, ...]
    on_end: Callable[[], None]
    on_failed: Callable[[str], None]
    ready: asyncio.Future[dict[str, Any]]
    is_wanted: bool = True
    is_ready: bool = False
    process: asyncio.subprocess.Process | None = None
    reason: str = ""
    heard_s: float = 0.0

    def signal(self, number: int) -> None:
        """Send a signal to the process that runs now."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


@dataclass(eq=False)
class EnginePlace:
    """The place of one engine process.

    Attributes:
        row: Row of the arena.
        address: Where front ends connect.
        listener: The socket that listens there.
        child: The place's processes.
    """

    row: int
    address: str
    listener: socket.socket
    child: Child


@dataclass(eq=False)
class Model:
    """One loading of one model."""

    name: str
    path: Path
    generation: int
    engines: list[EnginePlace] = field(default_factory=list["EnginePlace"])

    @property
    def is_ready(self) -> bool:
        """Whether all its engine processes are there now."""
        return all(engine.child.is_ready for engine in self.engines)

    def facts(self) -> dict[str, Any]:
        """What the first engine process said of itself, once it was ready."""
        return self.engines[0].child.ready.result()

    def entry(self) -> dict[str, Any]:
        """Tell a front end where its engine processes listen."""
        return {
            "name": self.name,
            "bundle": str(self.path),
            "generation": self.generation,
            "engines": [{"address": e.address, "row": e.row} for e in self.engines],
        }
