"""Training runs of a comparison, several at a time, each in a process of its own."""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from training.comparison.plan import Data, PlannedRun, time_steps
from training.comparison.systems import System
from training.ground.progress import progress
from training.run.folder import RunDir

Given = TypeVar("Given")
Result = TypeVar("Result")


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
) -> Iterator[Done[Given, Result]]:
    # Spawned, as a fork of a process with threads may hang; a process a run, since a run sets the
    # number of threads and the global seed.
    with ProcessPoolExecutor(
        at_a_time, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        futures = [pool.submit(function, item) for item in work]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:  # Ctrl-C as well
            pool.shutdown(cancel_futures=True)
            raise


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
        (job.folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return Done(given=job, result=None, error=_line(error))
    return Done(given=job, result=(time.monotonic() - started) / 60, error=None)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
