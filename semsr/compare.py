"""Composition of a comparison: trainings and evaluation of recipes, bundles and pictures.

The code is here because `training` must not import bundles or engines.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models import Generator, load_network
from semsr.evaluate import bundle_method
from semsr.evaluate_arguments import NamedBundle
from training.comparison.plan import Data, plan_run
from training.comparison.record import Record
from training.comparison.runs import Job, jobs_of, time_all, train_all
from training.comparison.systems import System
from training.evaluation.compared.methods import Method, pictures_method
from training.evaluation.folders.benchmark import SPLITS, load_benchmark

RUNS = "runs"
"""Folder of the trainings below the comparison's."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Budget of the trainings.

    Attributes:
        minutes: Minutes of one training; None for whole schedules.
        seeds: Trainings of each recipe.
        at_a_time: Trainings that run at a time.
    """

    minutes: float | None = None
    seeds: int = 1
    at_a_time: int = 1


class FinishedError(ValueError):
    """A finished model or folder of pictures cannot be judged."""


def check_finished(
    systems: Sequence[System], *, benchmark: Path, split: str, limit: int | None
) -> None:
    """Check finished models and pictures before hours of training.

    Args:
        systems: All systems.
        benchmark: Folder of the benchmark.
        split: Key of the benchmark's `SPLITS`.
        limit: Tiles of each split; None for all.

    Raises:
        CheckpointError: A file is not a checkpoint.
        FinishedError: A network needs more than LR tiles, or pictures of tiles are missing.
    """
    opened = load_benchmark(benchmark)
    names = [
        Path(part) / f"{tile.name}.png"
        for part in SPLITS[split]
        for tile in opened.tiles(part)[:limit]
    ]
    for system in systems:
        if system.kind == "checkpoint" and (reason := _needs_more_than_lr(system.path)):
            raise FinishedError(f"{system.name}: {reason}")
        if system.kind == "pictures":
            missing = [name for name in names if not (system.path / name).is_file()]
            if missing:
                raise FinishedError(
                    f"{system.name}: {len(missing)} of {len(names)} pictures are missing, the "
                    f"first is {system.path / missing[0]}"
                )


def forget_runs(folder: Path) -> None:
    """Remove the trainings of a comparison: another one must not go on with them."""
    shutil.rmtree(folder / RUNS, ignore_errors=True)


def plan_all(
    systems: Sequence[System],
    data: Data,
    budget: Budget,
    record: Record,
    *,
    is_timed: bool,
) -> None:
    """Plan the runs of the recipes that have no plan yet; the record keeps it.

    Args:
        systems: All systems.
        data: Data of the trainings.
        budget: Budget of the trainings.
        record: Record of the comparison.
        is_timed: Whether to time the steps of recipes without a timing; whole schedules can be
            planned without.
    """
    known = {of.name for of in record.plan if of.step_s is not None or not is_timed}
    missing = [s for s in systems if s.kind == "recipe" and s.name not in known]
    if not is_timed:
        for system in missing:
            record.add_plan(plan_run(system, step_s=None, minutes=None))
        return
    for done in time_all(missing, data, at_a_time=budget.at_a_time):
        if done.result is None:
            record.add_failure(done.given.name, done.error or "")
        else:
            record.add_plan(plan_run(done.given, step_s=done.result, minutes=budget.minutes))


def train_missing(
    systems: Sequence[System], data: Data, budget: Budget, record: Record, *, folder: Path
) -> list[Job]:
    """Train what is not trained yet; return the jobs of all systems whose checkpoint is there."""
    jobs = jobs_of(systems, record.plan, seeds=budget.seeds, folder=folder / RUNS)
    finished = record.minutes
    missing = [job for job in jobs if job.name not in finished]
    for done in train_all(missing, data, at_a_time=budget.at_a_time):
        if done.result is None:
            record.add_failure(done.given.name, done.error or "")
        else:
            record.add_run(done.given.name, done.result)
    return [job for job in jobs if job.name in record.minutes]


def methods_of(
    systems: Sequence[System], jobs: Sequence[Job], *, engine: str, seeds: int
) -> tuple[list[Method], dict[str, str]]:
    """Make the methods of an evaluation, in the order of the systems.

    Args:
        systems: All systems.
        jobs: Finished trainings.
        engine: Engine that runs bundles.
        seeds: Trainings of each recipe.

    Returns:
        The methods, and by system the reason why it has none.
    """
    methods: list[Method] = []
    left_out: dict[str, str] = {}
    for system in systems:
        if system.kind == "pictures":
            methods.append(pictures_method(system.name, system.path))
            continue
        if system.kind != "recipe":
            named = NamedBundle(name=system.name, path=system.path)
            methods.append(bundle_method(named, role="candidate", engine=engine))
            continue
        for job in (job for job in jobs if job.system.name == system.name):
            if reason := _needs_more_than_lr(job.checkpoint):
                left_out[system.name] = reason
                continue
            name = system.name if seeds == 1 else f"{system.name} #{job.seed + 1}"
            group = system.name if seeds > 1 else None
            named = NamedBundle(name=name, path=job.checkpoint, group=group)
            methods.append(bundle_method(named, role="candidate", engine=engine))
    return methods, left_out


def _needs_more_than_lr(checkpoint: Path) -> str | None:
    """Return why a trained network cannot be judged on LR tiles alone; None where it can."""
    network, info = load_network(checkpoint)
    if not isinstance(network, Generator):
        return (
            f"{info.generator} needs a reference image: make its pictures by semsr reference-sr "
            f"--checkpoint {checkpoint}, and give their folder as NAME=FOLDER"
        )
    if network.scale == 1:
        return (
            f"{info.generator} at scale 1 translates pictures that are enlarged already: make its "
            f"pictures by semsr translate --checkpoint {checkpoint}, and give their folder as "
            "NAME=FOLDER"
        )
    return None
