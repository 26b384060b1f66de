"""The processes that a supervisor starts: places that one process after the other fills."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()

# A process that never becomes ready is started so often in a row, each time after a longer pause.
_MAX_FAILURES = 5
_BACKOFF_S = 0.5
# Beyond the time that a process was given to end by itself.
_KILL_AFTER_S = 2.0


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
        started_s: `time.monotonic()` when it was started.
        is_known: Set unless a process is being created, whose id is not known yet.
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
    started_s: float = 0.0
    is_known: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.is_known.set()

    @property
    def starting_s(self) -> float:
        """Seconds for which the process that runs now has not been ready; 0 if it is, or none."""
        is_running = self.process is not None and self.process.returncode is None
        return time.monotonic() - self.started_s if is_running and not self.is_ready else 0.0

    async def run(self, *, is_stopping: Callable[[], bool], on_restart: Callable[[], None]) -> None:
        """Run the place's processes, one after the other, until it is wanted no longer.

        Args:
            is_stopping: Whether the whole pool ends.
            on_restart: Called before a process is started in the place of another.
        """
        failures = 0
        while self.is_wanted and not is_stopping():
            self.is_ready = False
            code, end = await self._run_process()
            self.on_end()
            if is_stopping() or not self.is_wanted:
                return
            log.warning("process_ended", child=self.name, code=code, was_ready=self.is_ready)
            failures = 0 if self.is_ready else failures + 1
            if not self.ready.done() or failures == _MAX_FAILURES:
                reason = self.reason or f"{self.name} {end}"
                if self.ready.done():
                    self.on_failed(reason)
                else:
                    self.ready.set_exception(LoadError(reason))
                return
            on_restart()
            if failures:
                await asyncio.sleep(_BACKOFF_S * 2 ** (failures - 1))

    async def _run_process(self) -> tuple[int | None, str]:
        """Run one process; returns its exit code, None if there was none, and how it ended."""
        self.started_s = time.monotonic()
        self.is_known.clear()
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.command(),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=self.fds,
                # Ctrl-C on a terminal reaches the supervisor alone, which ends them in order.
                process_group=0,
            )
        except OSError as error:
            # No memory, processes or file descriptors are left now; in a moment there may be.
            self.process = None
            log.error("process_not_started", child=self.name, error=str(error))  # noqa: TRY400
            return None, f"could not be started: {error}"
        finally:
            self.is_known.set()
        code = await self.process.wait()
        return code, f"ended with code {code}; its log says why"

    def signal(self, number: int) -> None:
        """Send a signal to the process that runs now."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


async def end_children(children: Sequence[Child], number: int, *, within_s: float) -> None:
    """Ask processes to end; those that do not are killed.

    Args:
        children: Their places, which are wanted no longer.
        number: The signal that asks.
        within_s: Time that they have.
    """
    for child in children:
        child.is_wanted = False
    for child in children:
        # One that is being created now would be left behind.
        await child.is_known.wait()
    running = [c.process for c in children if c.process and c.process.returncode is None]
    for child in children:
        # One that is still starting has nothing to finish and no handler yet.
        child.signal(number if child.is_ready else signal.SIGTERM)
    waits = [asyncio.ensure_future(process.wait()) for process in running]
    if waits:
        _, late = await asyncio.wait(waits, timeout=within_s + _KILL_AFTER_S)
        if late:
            log.error("processes_killed", count=len(late))
            for child in children:
                child.signal(signal.SIGKILL)
            await asyncio.wait(late)


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
