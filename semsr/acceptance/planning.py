"""Stage `plan`: start weights, and the number of steps that fits the time budget.

The plan is made once and recorded, so that a command that goes on after a kill trains the same
steps, however busy the machine is by then.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.preflight import ExportError, check_tile, halo_of
from models import Generator, build_network, load_network
from semsr.acceptance.estimating import images_of, read_ranges
from semsr.acceptance.layout import SIDES, Layout, Settings, read_json, write_json
from semsr.acceptance.pairs import make_pairs
from semsr.acceptance.seen import seen_images
from semsr.acceptance.timing import measure_cost, reserve_s
from semsr.progress import duration
from training.config.recipe import ConfigError, Recipe, load_recipe
from training.evaluation.folders.real_folders import RealPair
from training.evaluation.measures.pair_structure import pair_structure
from training.ground.baselines import bicubic
from training.run.warm_start import load_warm_start

TRIED_PAIRS = 4
TRIED_SIDE_LR_PX = 128
FRESH_LEARNING_RATE = 1e-3
MIN_STEPS = 20
TRAINING_SHARE = 0.9
"""Share of the time left that steps are planned for: a step takes longer on a busy machine."""

SAVE_S = 60.0
"""Time between two saved states, which a kill may cost."""

UNTIMED_SAVE_STEPS = 50
"""The same in steps, for a number of steps that is given and not timed."""

LOG_STEPS = 25

SEEN = (
    "the start weights were trained on {} of the held-out images, by their names: on these, the "
    "figures say little about new images (--from fresh, or images of other places)"
)
"""Warning of the report; see `seen`."""


class PlanError(ValueError):
    """The time budget leaves no room for a training, or the start weights do not fit."""


def plan(
    settings: Settings, layout: Layout, *, spent_s: float
) -> tuple[list[Path], dict[str, float]]:
    """Choose start weights and steps, and write them to `plan.json`.

    Args:
        settings: Options.
        layout: Folder.
        spent_s: Seconds that the stages before took.

    Returns:
        The written file, and the measured seconds for the report.

    Raises:
        PlanError: The budget leaves no room for `MIN_STEPS`, or weights do not fit the recipe.
    """
    started_s = time.monotonic()
    recipe = load_recipe(settings.recipe, overrides=settings.overrides)
    pairs = make_pairs(
        dict(list(images_of(layout, "training", "hr").items())[:TRIED_PAIRS]),
        read_ranges(layout),
        scale=recipe.scale,
        seed=settings.seed,
        max_side_lr_px=TRIED_SIDE_LR_PX,
    )
    start = choose_start(settings, pairs)
    _check_tile(settings, recipe, start)
    rate = learning_rate(settings, recipe, is_fresh=start["file"] is None)
    whole = recipe.optimization.steps
    measured: dict[str, float] = {}
    if settings.steps is not None:
        steps, every = settings.steps, max(1, min(UNTIMED_SAVE_STEPS, settings.steps // 10))
    else:
        cost = measure_cost(settings, layout, overrides=training_overrides(settings, layout))
        later_s = reserve_s(settings, layout, cost)
        left_s = 60 * settings.minutes - spent_s - (time.monotonic() - started_s) - later_s
        steps = min(whole, int(TRAINING_SHARE * left_s / cost.step_s))
        if steps < min(MIN_STEPS, whole):
            needed = 60 * settings.minutes - left_s + MIN_STEPS * cost.step_s / TRAINING_SHARE
            raise PlanError(
                f"--minutes is {settings.minutes:g}, of which {max(left_s, 0) / 60:.1f} are left "
                f"for a training of {cost.step_s:.2f} s a step; expected at least "
                f"{np.ceil(needed / 60):.0f} minutes on this machine, or --steps N"
            )
        every = max(1, min(250, round(SAVE_S / cost.step_s)))
        measured = {**vars(cost), "reserve_s": later_s, "spent_s": spent_s}
    file = start["file"]
    # A line of statistics must not reach over a save: a resumed run would average other steps.
    log_every = min(LOG_STEPS, every)
    write_json(
        layout.plan,
        "plan",
        {
            "start": start,
            "seen": [] if file is None else seen_images(Path(file), settings, layout),
            "steps": steps,
            "whole_steps": whole,
            "learning_rate": rate,
            "log_every_steps": log_every,
            "checkpoint_every_steps": every - every % log_every,
        },
    )
    return [layout.plan], measured


def plan_line(layout: Layout, measured: Mapping[str, float]) -> str:
    """Return the plan in one line.

    Args:
        layout: Folder with a plan.
        measured: Seconds that `plan` measured; empty where the steps were given.
    """
    found = read_json(layout.plan)
    parts = [f"{found['steps']:,} of the recipe's {found['whole_steps']:,} steps"]
    if "step_s" in measured:
        training_s = found["steps"] * measured["step_s"]
        parts.append(f"{measured['step_s']:.2f} s a step, so about {duration(training_s)}")
        parts.append(f"then about {duration(measured['reserve_s'])} of export and evaluation")
    start = found["start"]
    weights = "fresh weights" if start["file"] is None else "trained weights"
    seen = f"; WARNING: {SEEN.format(len(found['seen']))}" if found["seen"] else ""
    return f"plan: {', '.join(parts)}; from {weights} ({start['why']}){seen}"


def training_overrides(settings: Settings, layout: Layout) -> list[str]:
    """Return the overrides of the recipe for the training: data, and the user's."""
    sides = read_json(layout.split)["sides"]
    counts = {side: len(sides[side]["training"]) for side in SIDES}
    held_out = [f"hr/{sides['hr']['files'][name]}" for name in sides["hr"]["held_out"]]
    statement = (
        f"{counts['lr']} LR and {counts['hr']} HR images of a user's own two folders, unaligned. "
        f"{len(sides['lr']['held_out'])} LR and {len(held_out)} HR images of other sources were "
        "held out by semsr accept."
    )
    values: dict[str, Any] = {
        "data.lr": ["training/lr"],
        "data.hr": ["training/hr", "held_out/hr"],
        "data.held_out_tiles": ["held_out/hr"],
        "data.held_out_sources": held_out,
        "data.statement": statement,
        "optimization.seed": settings.seed,
        "optimization.threads": settings.threads,
    }
    if settings.window is not None:
        values["data.window"] = list(settings.window)
    # JSON of texts, numbers and lists is TOML too.
    return [*settings.overrides, *(f"{key}={json.dumps(value)}" for key, value in values.items())]


def learning_rate(settings: Settings, recipe: Recipe, *, is_fresh: bool) -> float:
    """Return the learning rate: the recipe's; that of `own_tiles` is for trained weights."""
    is_named = any(text.startswith("optimization.learning_rate=") for text in settings.overrides)
    if is_fresh and settings.recipe.stem == "own_tiles" and not is_named:
        return FRESH_LEARNING_RATE
    return recipe.optimization.learning_rate


def choose_start(settings: Settings, pairs: list[RealPair]) -> dict[str, Any]:
    """Choose what the training starts from.

    With `auto`, the shipped weights are tried on LR versions of own HR images, made by the
    estimated degradation: they are taken where their structure is nearer to the truth than
    bicubic's.

    Returns:
        `file` (None for fresh weights), `why`, and the two correlations where they were measured.
    """
    recipe = load_recipe(settings.recipe, overrides=settings.overrides)
    if settings.start == "fresh":
        return {"file": None, "why": "--from fresh"}
    shipped = settings.baseline / "model.safetensors"
    path = shipped if settings.start in ("auto", "shipped") else Path(settings.start)
    path = path.absolute()  # the command may go on from another working directory
    if settings.start == "auto" and not path.is_file():
        return {"file": None, "why": f"{path.parent.name} has no weights to train from"}
    try:
        load_warm_start(path, generator=recipe.generator)
    except ConfigError as error:
        if settings.start == "auto":
            return {"file": None, "why": f"the recipe's network is not that of {path.parent.name}"}
        raise PlanError(str(error)) from error
    if settings.start != "auto":
        return {"file": str(path), "why": f"--from {settings.start}"}
    ours, floor = (
        pair_structure(pairs, answers)["correlation"]
        for answers in (
            _answers(path, pairs),
            {p.name: np.rint(bicubic(p.lr, scale=recipe.scale)).astype(np.uint8) for p in pairs},
        )
    )
    facts = {"correlation": round(ours, 4), "bicubic_correlation": round(floor, 4)}
    if ours > floor:
        why = f"they enlarge your images better than bicubic ({ours:.3f} against {floor:.3f})"
        return {"file": str(path), "why": why, **facts}
    why = f"the shipped weights are no better than bicubic ({ours:.3f} against {floor:.3f})"
    return {"file": None, "why": why, **facts}


def _check_tile(settings: Settings, recipe: Recipe, start: Mapping[str, Any]) -> None:
    """Refuse a tile that the export would refuse after hours."""
    if start["file"] is None:
        network = build_network(recipe.generator.name, recipe.generator.hyper_parameters)
    else:
        network, _ = load_network(Path(start["file"]))
    if not isinstance(network, Generator):
        return
    try:
        check_tile(network, settings.tile)
        radius_px = network.receptive_radius_px
        if radius_px is not None and 2 * radius_px >= min(settings.tile):
            halo_of(network, settings.tile, [])  # measured: it may be less than the radius
    except ExportError as error:
        raise PlanError(f"--tile: {error}") from error


def _answers(path: Path, pairs: list[RealPair]) -> Mapping[str, np.ndarray]:
    network, _ = load_network(path)
    if not isinstance(network, Generator):
        raise PlanError(f"{path} needs a reference image: it cannot be served")
    merged = network.merged().eval()
    answers = {}
    with torch.inference_mode():
        for pair in pairs:
            lr = torch.from_numpy(pair.lr.copy())[None, None].float() / 255.0
            sr = merged(lr).clamp(0.0, 1.0)[0, 0]
            answers[pair.name] = (sr * 255.0).round().byte().numpy()
    return answers
