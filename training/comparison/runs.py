"""Training runs of a comparison, several at a time, each in a process of its own."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar, cast

from training.comparison.plan import Data, PlannedRun, time_steps
from training.comparison.systems import System
from training.ground.progress import progress
from training.run.folder import RunDir

Given = TypeVar("Given")
Result = TypeVar("Result")

STOPPING_S = 2.0
"""Time in which processes that a Ctrl-C reached stop by themselves."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training of a comparison.

    Attributes:
        system: System of kind "recipe".
        seed: Number of the training, from 0; it is added to the recipe's seed.
        steps: Steps of the run.
        folder: Folder of the run.
    """

    system: System
    seed: int
    steps: int
    folder: Path

    @property
    def name(self) -> str:
        """Name of the run: the system's, with the number of the training."""
        return run_name(self.system.name, self.seed)

    @property
    def checkpoint(self) -> Path:
        """Checkpoint of the run."""
        return RunDir(self.folder).checkpoint


@dataclass(frozen=True, kw_only=True)
class Done(Generic[Given, Result]):
    """Result of one piece of work, or what went wrong.

    Attributes:
        given: Piece of work.
        result: Result; None after an error.
        error: Error in one line; None for none.
    """

    given: Given
    result: Result | None
    error: str | None


def run_name(system: str, seed: int) -> str:
    """Return the name of a system's training."""
    return f"{system}-{seed}"


def jobs_of(
    systems: Sequence[System], plan: Sequence[PlannedRun], *, seeds: int, folder: Path
) -> list[Job]:
    """List the trainings of a comparison, one seed of all systems after the other.

    Args:
        systems: Systems; only recipes are trained.
        plan: Planned runs of the recipes.
        seeds: Trainings of each system.
        folder: Folder of all runs.
    """
    steps = {planned.name: planned.steps for planned in plan}
    return [
        Job(
            system=system,
            seed=seed,
            steps=steps[system.name],
            folder=folder / run_name(system.name, seed),
        )
        for seed in range(seeds)
        for system in systems
        if system.name in steps
    ]


def time_all(
    systems: Sequence[System], data: Data, *, at_a_time: int
) -> Iterator[Done[System, float]]:
    """Time the steps of recipes, several at a time as in training; yield each as it is done."""
    work = [(system, data) for system in systems]
    with progress("timing steps", total=len(work), unit="system") as steps:
        for done in _in_processes(_time, work, at_a_time=at_a_time):
            steps.say(done.given.name)
            steps.update()
            yield done


def train_all(jobs: Sequence[Job], data: Data, *, at_a_time: int) -> Iterator[Done[Job, float]]:
    """Train, or go on with what an interrupted comparison left; yield each run as it is done.

    The result is the minutes that this call spent on the run. A run that fails, such as by a loss
    that diverges, does not stop the others.
    """
    work = [(job, data) for job in jobs]
    with progress("training", total=len(work), unit="run") as steps:
        for done in _in_processes(_train, work, at_a_time=at_a_time):
            steps.say(done.given.name)
            steps.update()
            yield done


def _in_processes(
    function: Callable[[tuple[Given, Data]], Done[Given, Result]],
    work: Iterable[tuple[Given, Data]],
    *,
    at_a_time: int,
) -> Generator[Done[Given, Result]]:
    # Spawned, as a fork of a process with threads may hang; a process a run, since a run sets the
    # number of threads and the global seed, and one that the system ends must not end the others.
    context = multiprocessing.get_context("spawn")
    waiting = deque(work)
    running: dict[Connection, tuple[BaseProcess, Given]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_a_time:
                item = waiting.popleft()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_answer, args=(function, item, sender))
                process.start()
                sender.close()
                running[receiver] = process, item[0]
            for receiver in cast("list[Connection]", wait(list(running))):
                process, given = running[receiver]
                try:
                    done = receiver.recv()
                except EOFError:
                    process.join()
                    done = Done(given=given, result=None, error=_death(process.exitcode))
                process.join()
                del running[receiver]
                yield done
    except BaseException:  # Ctrl-C as well
        _stop([process for process, _ in running.values()])
        raise


def _answer(
    function: Callable[[tuple[Given, Data]], Done[Given, Result]],
    item: tuple[Given, Data],
    sender: Connection,
) -> None:
    """Do one piece of work in its process, and send the result."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # the parent says that it was stopped
        sender.send(function(item))


def _end_with_parent() -> None:
    """End this process when the parent is killed: a repeated command trains in the same folder."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _death(code: int | None) -> str:
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    hint = "; the system does this when memory runs out" if code == -signal.SIGKILL else ""
    return f"its process died ({how}){hint}"


def _stop(processes: Sequence[BaseProcess]) -> None:
    """Stop processes: Ctrl-C in a terminal reaches them too, a signal to one process does not."""
    until = time.monotonic() + STOPPING_S
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGINT)
    for process in processes:
        process.join(STOPPING_S)
        process.terminate()  # started in the background, it ignores the signal before
        process.join()


def _time(work: tuple[System, Data]) -> Done[System, float]:
    system, data = work
    try:
        return Done(given=system, result=time_steps(system, data), error=None)
    except Exception as error:  # any error of a recipe: the others are timed and trained
        return Done(given=system, result=None, error=_line(error))


def _train(work: tuple[Job, Data]) -> Done[Job, float]:
    from training.trainer import train

    job, data = work
    seed = job.system.recipe().optimization.seed + job.seed
    started = time.monotonic()
    try:
        train(
            job.system.path,
            data_root=data.root,
            run_dir=job.folder,
            overrides=[
                *job.system.overrides,
                f"optimization.steps={job.steps}",
                f"optimization.seed={seed}",
            ],
            resume=RunDir(job.folder).config.is_file(),
            vgg16=data.vgg16,
        )
    except Exception as error:  # as above
        job.folder.mkdir(parents=True, exist_ok=True)  # refused before the run began
        (job.folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return Done(given=job, result=None, error=_line(error))
    return Done(given=job, result=(time.monotonic() - started) / 60, error=None)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
