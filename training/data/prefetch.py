"""Prefetching in worker processes, for batches of the next steps and for images of a bank.

A result is a function of its maker and its number alone, so the workers affect neither its value
nor the order of use. Flow: `take(name, number)` sends tasks for the next numbers to the workers
with the fewest tasks; a thread reads the results from one pipe per worker; later calls of `take`
return them. Large arrays of the makers lie in memory that all workers share.

Workers are spawned and end when their pipe closes, also if their parent process is killed. SIGINT
(Ctrl-C) is blocked in the workers; the parent process handles it.
"""

import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from ctypes import c_ubyte
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, NamedTuple

Maker = Callable[[int], Any]

TASKS_PER_WORKER = 2
"""Greatest number of tasks of a worker; the second one waits, so that the worker is never idle."""

AHEAD_PER_WORKER = 3
"""Results of one maker that are in progress or ready, for each worker."""

CLOSE_S = 5.0
"""Time for a worker to finish its task before it is killed."""


class WorkerError(RuntimeError):
    """A worker process failed at a task or died; the message names the task and the cause."""


class _Task(NamedTuple):
    name: str
    number: int


@dataclass(kw_only=True)
class _Worker:
    """A worker process and its open tasks, the oldest first."""

    process: SpawnProcess
    connection: "Connection[Any, Any]"
    index: int
    tasks: list[_Task] = field(default_factory=list[_Task])

    def send(self, task: _Task | None) -> None:
        """Send a task, or None to end the worker; the reading thread notices a dead worker."""
        with suppress(OSError):
            self.connection.send(task)


@dataclass(frozen=True, kw_only=True)
class _Fault:
    """An exception in a worker."""

    error: BaseException | None
    text: str


class Prefetch:
    """Worker processes that make results ahead, bit for bit as without workers.

    Args:
        makers: Functions of a number by name; they and their results can be pickled.
        workers: Processes, at least 1.
        first: First number.
        last: Number after the last one.
        label: Function that names a number in errors, such as "the batch of step 7".
    """

    def __init__(
        self,
        makers: Mapping[str, Maker],
        *,
        workers: int,
        first: int,
        last: int,
        label: Callable[[int], str],
    ) -> None:
        self._label = label
        self._last = last
        self._ahead = AHEAD_PER_WORKER * workers
        # For each maker: the least number that may still be taken, and the next one to make.
        self._front = dict.fromkeys(makers, first)
        self._next = dict.fromkeys(makers, first)
        self._results: dict[_Task, Any] = {}
        self._condition = threading.Condition()
        self._failure: WorkerError | None = None
        self._is_closing = False
        self._workers = _start(makers, workers)
        self._reader = threading.Thread(target=self._read, name="prefetch", daemon=True)
        self._reader.start()
        with self._condition:
            self._assign()

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def take(self, name: str, number: int) -> Any:  # noqa: ANN401 - any result of the maker
        """Wait for a result and return it; each result can be taken once.

        The numbers of a maker must rise from call to call; results of skipped numbers are dropped.

        Raises:
            WorkerError: Its maker failed, with the maker's error as the cause; or a worker died.
        """
        task = _Task(name, number)
        with self._condition:
            self._front[name] = number
            for stale in [t for t in self._results if t.name == name and t.number < number]:
                del self._results[stale]
            self._next[name] = max(self._next[name], number)
            self._assign()
            while task not in self._results:
                if self._failure is not None:
                    raise self._failure
                self._condition.wait()
            result = self._results.pop(task)
            self._front[name] = number + 1
            self._assign()
        if isinstance(result, _Fault):
            raise WorkerError(
                f"{self._label(number)} failed in a worker process: {result.text}"
            ) from result.error
        return result

    def close(self) -> None:
        """End the workers: each finishes its task, or is killed after some seconds."""
        with self._condition:
            self._is_closing = True
            workers = list(self._workers)
        for worker in workers:
            worker.send(None)
        for worker in workers:
            worker.process.join(CLOSE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._reader.join()

    def _assign(self) -> None:
        """Give tasks to the workers with the fewest, lowest numbers first; needs the lock."""
        while not self._is_closing and self._workers:
            worker = min(self._workers, key=lambda worker: len(worker.tasks))
            open_names = [
                name
                for name, number in self._next.items()
                if number < min(self._front[name] + self._ahead, self._last)
            ]
            if len(worker.tasks) >= TASKS_PER_WORKER or not open_names:
                return
            name = min(open_names, key=self._next.__getitem__)
            task = _Task(name, self._next[name])
            self._next[name] += 1
            worker.tasks.append(task)
            worker.send(task)

    def _read(self) -> None:
        """Collect results until every worker has ended; runs in a thread of its own."""
        while self._workers:
            ready = wait([worker.connection for worker in self._workers])
            for worker in [w for w in self._workers if w.connection in ready]:
                try:
                    result = worker.connection.recv()
                except (EOFError, OSError):
                    self._lose(worker)
                    continue
                except Exception as error:
                    result = _Fault(error=error, text=str(error))
                with self._condition:
                    task = worker.tasks.pop(0)
                    if task.number >= self._front[task.name]:
                        self._results[task] = result
                    self._assign()
                    self._condition.notify_all()

    def _lose(self, worker: _Worker) -> None:
        """Remove a worker that has ended; before `close` that is a failure."""
        worker.process.join()
        worker.connection.close()
        with self._condition:
            self._workers.remove(worker)
            if not self._is_closing and self._failure is None:
                self._failure = WorkerError(self._obituary(worker))
            self._condition.notify_all()

    def _obituary(self, worker: _Worker) -> str:
        code = worker.process.exitcode or 0
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (by the kernel, where memory ran out)" if name == "SIGKILL" else ""
            cause = f"was killed by {name}{hint}"
        else:
            cause = f"ended with exit code {code}"
        doing = f" during {self._label(worker.tasks[0].number)}" if worker.tasks else ""
        return f"worker process {worker.index} (process id {worker.process.pid}) {cause}{doing}"


def _start(makers: Mapping[str, Maker], count: int) -> list[_Worker]:
    """Spawn the workers; each gets the makers."""
    context = get_context("spawn")
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(dict(makers), protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = [view.nbytes for view in views]
    shared = context.RawArray(c_ubyte, max(sum(sizes), 1))
    place, target = 0, memoryview(shared).cast("B")
    for view in views:
        target[place : place + view.nbytes] = view
        place += view.nbytes
    workers: list[_Worker] = []
    # Started here, since it unblocks signals when a process starts it.
    resource_tracker.ensure_running()
    for index in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work,
            args=(theirs, stream, shared, sizes),
            name=f"prefetch-{index}",
            daemon=True,  # so that an exit that skips `close` ends them too
        )
        # Blocked here, it stays blocked in the child from its first instruction on.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        workers.append(_Worker(process=process, connection=ours, index=index))
    return workers


def _work(connection: "Connection[Any, Any]", stream: bytes, shared: Any, sizes: list[int]) -> None:  # noqa: ANN401 - ctypes array
    """Run a worker: make results until the pipe closes."""
    memory, place, buffers = memoryview(shared).cast("B").toreadonly(), 0, []
    for size in sizes:
        buffers.append(memory[place : place + size])
        place += size
    makers: Mapping[str, Maker] = pickle.loads(stream, buffers=buffers)  # noqa: S301 - our own
    if "torch" in sys.modules:
        # One thread a worker: the cores are shared out by processes.
        sys.modules["torch"].set_num_threads(1)
    with suppress(EOFError, OSError):
        while (task := connection.recv()) is not None:
            try:
                result = makers[task.name](task.number)
            except Exception as error:
                result = _fault(error)
            connection.send(result)


def _fault(error: BaseException) -> _Fault:
    text = f"{type(error).__name__}: {error}"
    error.add_note(f"In the worker process:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        return _Fault(error=None, text=text)
    return _Fault(error=error, text=text)
