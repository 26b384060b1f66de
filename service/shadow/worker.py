"""Thread that starts the shadow process, keeps it running, and exchanges tiles with it.

Its sends and waits are outside the event loop, so that no answer waits for the shadow.
"""

import contextlib
import queue
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog

from service.shadow.entry import Entry, entry_of
from service.shadow.tap import Sample
from service.shadow.wire import receive_frame, send_frame

log = structlog.get_logger()

MAX_FAILURES = 5
"""Ends of the process in a row, without a compared tile between, after which it stays off."""

_BACKOFF_S = 0.5
# Interval at which an idle thread looks whether its process still runs.
_LOOK_S = 0.5
# A starved shadow is slow, not hung: it runs on processor time that is left over.
_PATIENCE = 10.0
PICTURES = ("lr", "served", "shadow")
"""Pictures of a listed tile, `NAME-lr.png` and so on."""


class WorkerEvents(Protocol):
    """Callbacks of the worker; it calls them on its own thread."""

    def on_running(self, hello: dict[str, Any]) -> None:
        """Report a shadow that is ready: name, version, sha, engine, precision, tile, scale."""
        ...

    def on_down(self, reason: str, *, is_final: bool) -> None:
        """Report a shadow process that has ended; a final end has no successor."""
        ...

    def on_compared(self, sample: Sample, entry: Entry) -> None:
        """Report a compared tile."""
        ...

    def on_failed(self, sample: Sample, reason: str) -> None:
        """Report a tile that the shadow could not answer."""
        ...

    def ranks(self, entry: Entry) -> bool:
        """Whether the pictures of a tile are to be stored."""
        ...


@dataclass(frozen=True)
class WorkerOptions:
    """Options of a worker.

    Attributes:
        config: Argument of the shadow process, see `service.shadow_process`.
        timeout_s: Time limit of a batch in seconds (SEMSR_ENGINE_TIMEOUT_S).
        pictures: Folder of the pictures; None for none.
        command: Arguments of the process before its configuration.
    """

    config: dict[str, Any]
    timeout_s: float
    pictures: Path | None
    command: tuple[str, ...] = (sys.executable, "-m", "service.shadow_process")


class Worker:
    """The thread and its process."""

    def __init__(self, options: WorkerOptions, events: WorkerEvents) -> None:
        """Prepare; `start` starts the process."""
        self._options = options
        self._events = events
        self._tasks: queue.SimpleQueue[Sample | str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stored = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def give(self, sample: Sample) -> None:
        """Queue a tile; the caller bounds their number."""
        self._tasks.put(sample)

    def forget(self, pictures: str) -> None:
        """Delete the pictures of a tile that is no longer listed."""
        self._tasks.put(pictures)

    def stop(self, timeout_s: float) -> bool:
        """End the process at once; returns whether the thread ended in time."""
        self._stopping.set()
        self._tasks.put(None)
        with self._lock:
            if self._process is not None:
                self._process.kill()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._keep_running()
        except Exception as error:
            # A fault of this thread must show: a silent end looks like a busy service.
            log.exception("shadow_thread_failed")
            self._events.on_down(f"the thread of the shadow failed: {error!r}", is_final=True)

    def _keep_running(self) -> None:
        failures = 0
        self._delete_stored("shadow-*")
        while not self._stopping.is_set():
            compared, reason = self._serve_process()
            if self._stopping.is_set():
                return
            failures = 0 if compared else failures + 1
            is_final = failures >= MAX_FAILURES
            self._fail_waiting(reason)
            self._events.on_down(reason, is_final=is_final)
            if is_final:
                return
            self._stopping.wait(_BACKOFF_S * 2 ** max(0, failures - 1))

    def _serve_process(self) -> tuple[int, str]:
        """Run one process until it ends; returns its compared tiles and why it ended."""
        ours, theirs = socket.socketpair()
        compared = 0
        with ours, theirs:
            try:
                if not self._start_process(theirs.fileno()):
                    return 0, "stopped"
            except OSError as error:
                return 0, f"the shadow process could not be started: {error}"
            theirs.close()
            ours.settimeout(_PATIENCE * max(self._options.timeout_s, 60.0))
            try:
                hello, _ = receive_frame(ours)
                if "failed" in hello:
                    return 0, str(hello["failed"])
                self._events.on_running(hello)
                while (task := self._next_task()) is not None:
                    if isinstance(task, str):
                        self._delete_stored(task)
                    else:
                        compared += self._compare(ours, task)
            except (OSError, EOFError, ValueError, KeyError) as error:
                reason = "it did not answer in time" if isinstance(error, TimeoutError) else error
                return compared, f"the shadow process ended: {reason or type(error).__name__}"
            finally:
                self._end_process()
        return compared, "stopped"

    def _next_task(self) -> Sample | str | None:
        """Wait for the next task; None at the end.

        Raises:
            EOFError: The process has ended meanwhile.
        """
        while True:
            with contextlib.suppress(queue.Empty):
                return self._tasks.get(timeout=_LOOK_S)
            if self._process is not None and self._process.poll() is not None:
                raise EOFError(f"its exit code is {self._process.returncode}")

    def _start_process(self, descriptor: int) -> bool:
        """Start the process; returns whether it runs: not if the service stops meanwhile."""
        argument = orjson.dumps({**self._options.config, "fd": descriptor}).decode()
        with self._lock:
            if self._stopping.is_set():
                return False
            self._process = subprocess.Popen(
                [*self._options.command, argument],
                stdin=subprocess.DEVNULL,
                pass_fds=(descriptor,),
                # Ctrl-C on a terminal reaches the service alone, which ends the shadow.
                process_group=0,
            )
        return True

    def _compare(self, connection: socket.socket, sample: Sample) -> int:
        """Exchange one tile; returns how many were compared."""
        result = sample.result
        head = {"shape": sample.lr.shape, "scale": sample.served.scale}
        is_settled = False
        try:
            send_frame(connection, head, [sample.lr, result.sr])
            reply, _ = receive_frame(connection)
            if "error" in reply:
                is_settled = True
                self._events.on_failed(sample, str(reply["error"]))
                return 0
            entry = entry_of(
                reply,
                request_id=sample.request_id,
                served_version=sample.served.version,
                served_flags=result.flags.tolist(),
                served_s=result.infer_s / result.batch_size,
            )
            if self._options.pictures is not None and self._events.ranks(entry):
                entry = self._store(connection, entry)
            is_settled = True
            self._events.on_compared(sample, entry)
        finally:
            if not is_settled:
                self._events.on_failed(sample, "the shadow process ended on this tile")
        return 1

    def _store(self, connection: socket.socket, entry: Entry) -> Entry:
        """Let the process store the pictures of the tile that it compared last."""
        self._stored += 1
        name = f"shadow-{self._stored:06d}-{entry.sha256[:12]}"
        send_frame(connection, {"keep": name})
        reply, _ = receive_frame(connection)
        if "error" in reply:
            log.warning("shadow_picture_failed", error=str(reply["error"]))
            return entry
        return replace(entry, pictures=name)

    def _fail_waiting(self, reason: str) -> None:
        """Give back the tiles that wait for a process that has ended."""
        for _ in range(self._tasks.qsize()):
            task = self._tasks.get()
            if isinstance(task, str):
                self._delete_stored(task)
            elif task is not None:
                self._events.on_failed(task, reason)

    def _delete_stored(self, name: str) -> None:
        folder = self._options.pictures
        if folder is not None:
            for kind in PICTURES:
                for path in folder.glob(f"{name}-{kind}.png"):
                    with contextlib.suppress(OSError):
                        path.unlink()

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
