"""Plan of a comparison: how many steps of each recipe fit into the budget.

A few steps of every recipe are timed where the comparison will train. A run is then planned with
the number of steps that fits, never stopped in the middle: schedules of learning rates and of terms
are shares of the run, so that a short run is a whole, small one.
"""

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from training.comparison.systems import System, changed_network
from training.config.recipe import Recipe

TIMED_S = 8.0
"""Least time over which steps are timed."""

FIRST_STEPS = 3
MAX_TIMED_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class Data:
    """Data that every run reads.

    Attributes:
        root: Folder that the recipes' paths are relative to.
        vgg16: Weights of the feature network; None for none.
    """

    root: Path
    vgg16: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """Training of one recipe within the budget.

    Attributes:
        name: Name of the system.
        step_s: Seconds a step, as timed; None where whole schedules need no timing.
        steps: Steps of the run.
        whole_steps: Steps of the recipe's whole schedule.
        share: Pixels of LR crops that the run trains on, of those of the whole schedule.
        batch_size: Crops a step.
        crop_px: Side of a crop, LR px.
        changes: Overrides that change the network.
        overrides: All overrides.
    """

    name: str
    step_s: float | None
    steps: int
    whole_steps: int
    share: float
    batch_size: int
    crop_px: int
    changes: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    @property
    def is_short(self) -> bool:
        """Whether the run trains less, or another network, than its recipe says."""
        return self.share < 1 or bool(self.changes)

    @property
    def minutes(self) -> float | None:
        """Minutes of the run, as predicted; None without a timing."""
        return None if self.step_s is None else self.step_s * self.steps / 60

    @property
    def whole_minutes(self) -> float | None:
        """Minutes of the whole schedule, as predicted; None without a timing."""
        return None if self.step_s is None else self.step_s * self.whole_steps / 60


def plan_run(system: System, *, step_s: float | None, minutes: float | None) -> PlannedRun:
    """Choose the steps of a run: the recipe's, or as many as fit into the budget.

    Args:
        system: System of kind "recipe".
        step_s: Seconds a step; None only without a budget.
        minutes: Budget of one run; None for the whole schedule.
    """
    recipe, whole_px = system.recipe(), _pixels(system.published())
    wanted = recipe.optimization.steps
    step_px = _pixels(recipe) / wanted
    steps = wanted
    if minutes is not None and step_s is not None:
        steps = max(1, min(wanted, int(60 * minutes / step_s)))
    return PlannedRun(
        name=system.name,
        step_s=step_s,
        steps=steps,
        whole_steps=math.ceil(whole_px / step_px),
        share=min(1.0, steps * step_px / whole_px),
        batch_size=recipe.optimization.batch_size,
        crop_px=recipe.optimization.crop_px,
        changes=tuple(changed_network(system)),
        overrides=system.overrides,
    )


def _pixels(recipe: Recipe) -> int:
    options = recipe.optimization
    return options.steps * options.batch_size * options.crop_px**2


def time_steps(system: System, data: Data) -> float:
    """Train a few steps of a recipe in a folder of its own; return the seconds of one.

    The first steps, in which libraries and caches warm up, do not count. Whole periods are timed:
    self-similarity may take part in each eighth step alone, which then takes several times as long.

    Raises:
        Exception: All that `training.trainer.train` raises.
    """
    period = period_steps(system.recipe())
    steps, timed_s = period * math.ceil(FIRST_STEPS / period), 0.0
    while True:
        first_s, timed_s = _timed(system, data, steps=2 * steps)
        if timed_s >= TIMED_S or steps >= MAX_TIMED_STEPS:
            return timed_s / steps
        a_step_s = max(timed_s / steps, first_s / (2 * steps) / 100, 1e-4)
        wanted = min(MAX_TIMED_STEPS, max(2 * steps, math.ceil(TIMED_S / a_step_s)))
        steps = period * math.ceil(wanted / period)


def period_steps(recipe: Recipe) -> int:
    """Return the steps after which a training's terms repeat."""
    return getattr(getattr(recipe.method, "self_similarity", None), "interval", 1)


def _timed(system: System, data: Data, *, steps: int) -> tuple[float, float]:
    """Train some steps; return the seconds of all of them, and of their second half."""
    from training.trainer import train

    every = steps // 2
    overrides = [
        f"optimization.steps={steps}",
        f"run.log_every_steps={every}",
        *(f"run.{what}_every_steps={10 * steps}" for what in ("checkpoint", "validate", "picture")),
    ]
    with tempfile.TemporaryDirectory(prefix="semsr-timing-") as folder:
        started = time.monotonic()
        train(
            system.path,
            data_root=data.root,
            run_dir=Path(folder) / "run",
            overrides=[*system.overrides, *overrides],
            vgg16=data.vgg16,
        )
        whole_s = time.monotonic() - started
        return whole_s, _second_half_s(Path(folder) / "run")


def _second_half_s(run_dir: Path) -> float:
    from training.run.folder import RunDir

    first, last = RunDir(run_dir).read_stats()
    return float(last["elapsed_s"]) - float(first["elapsed_s"])
