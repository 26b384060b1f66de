"""The processes that a supervisor starts: each place holds one process at a time."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger()

# Starts in a row, each after a longer pause, of a process that never becomes ready.
_MAX_FAILURES = 5
_BACKOFF_S = 0.5
# Longest pause: a card that returns gets tiles again within seconds.
_MAX_BACKOFF_S = 8.0
# Seconds after the time limit for an orderly end.
_KILL_AFTER_S = 2.0
# Time limit of a start, as a multiple of the time limit for silence; at least a minute.
_START_FACTOR, _MIN_START_S = 10.0, 60.0


class LoadError(Exception):
    """A model could not be loaded."""


@dataclass(eq=False)
class Child:
    """A place for one process; when the process ends, its successor takes the place.

    Attributes:
        name: Name of the processes, for the log.
        command: Function that makes the arguments of the next process.
        fds: File descriptors that it inherits.
        on_end: Callback for the end of a process.
        on_failed: Callback with the reason why no process can be kept running; it returns whether
            to go on trying.
        ready: Future that is done once the first process is ready; fails with LoadError if that
            process ends before.
        is_wanted: Whether a process that ends gets a successor.
        is_ready: Whether the present process has reported that it is ready.
        process: The present process, or the last one.
        reason: Reason that a process has reported for its end.
        failures: Processes in a row that have ended before they were ready.
        heard_s: `time.monotonic()` of its last message.
        started_s: `time.monotonic()` of its start.
        is_known: Event that is clear while a process is being created and has no known id.
    """

    name: str
    command: Callable[[], list[str]]
    fds: tuple[int, ...]
    on_end: Callable[[], None]
    on_failed: Callable[[str], bool]
    ready: asyncio.Future[None]
    is_wanted: bool = True
    is_ready: bool = False
    process: asyncio.subprocess.Process | None = None
    reason: str = ""
    failures: int = 0
    heard_s: float = 0.0
    started_s: float = 0.0
    is_known: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.is_known.set()

    @property
    def has_failed(self) -> bool:
        """Whether so many processes in a row have failed that none can be kept running."""
        return self.failures >= _MAX_FAILURES

    def set_ready(self) -> None:
        """Mark the present process as ready."""
        self.is_ready = True
        if not self.ready.done():
            self.ready.set_result(None)

    async def run(self, *, is_stopping: Callable[[], bool], on_restart: Callable[[], None]) -> None:
        """Run a process, and a successor whenever one ends while the place is wanted.

        Args:
            is_stopping: Function that returns whether the whole pool ends.
            on_restart: Callback before each process but the first.
        """
        while self.is_wanted and not is_stopping():
            self.is_ready = False
            code, end = await self._run_process()
            self.on_end()
            if is_stopping() or not self.is_wanted:
                return
            log.warning("process_ended", child=self.name, code=code, was_ready=self.is_ready)
            self.failures = 0 if self.is_ready else self.failures + 1
            reason = self.reason or f"{self.name} {end}"
            if not self.ready.done():
                self.ready.set_exception(LoadError(reason))
                return
            if self.has_failed and not self.on_failed(reason):
                return
            on_restart()
            if self.failures:
                # The power is bounded because failures are not.
                power = min(self.failures - 1, _MAX_FAILURES)
                await asyncio.sleep(min(_MAX_BACKOFF_S, _BACKOFF_S * 2**power))

    async def _run_process(self) -> tuple[int | None, str]:
        """Run one process; returns its exit code (None if it did not start) and how it ended."""
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
        """Send a signal to the present process."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def kill_hanging_start(self, timeout_s: float) -> None:
        """Kill a process that is not ready after the time limit of a start.

        Args:
            timeout_s: Time limit for the silence of a ready process; a start has a multiple of it.
        """
        most_s = max(_MIN_START_S, _START_FACTOR * timeout_s)
        starting_s = time.monotonic() - self.started_s
        is_running = self.process is not None and self.process.returncode is None
        if is_running and not self.is_ready and starting_s > most_s:
            self.reason = f"{self.name} was not ready after {most_s:.0f} s"
            log.error("start_hangs", child=self.name, seconds=round(starting_s, 1))
            self.signal(signal.SIGKILL)


async def end_children(children: Sequence[Child], number: int, *, within_s: float) -> None:
    """Ask processes to end, and kill the ones that do not end in time.

    Args:
        children: Places, which are no longer wanted.
        number: Number of the signal that asks.
        within_s: Time limit in seconds.
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
