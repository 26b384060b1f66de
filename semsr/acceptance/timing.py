"""Times of this machine, for the plan: a training step, an answer, and the judgement of a picture.

Everything runs once before it is timed: first calls load libraries and prepare memory, and take
several times as long as all others.
"""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from models import Generator, build_network
from semsr.acceptance.estimating import images_of, read_ranges
from semsr.acceptance.layout import Layout, Settings, read_json
from semsr.acceptance.pairs import MAX_SIDE_LR_PX, make_pairs, read_pairs
from training.comparison.plan import Data, time_steps
from training.comparison.systems import System
from training.config.recipe import load_recipe
from training.evaluation.compared.methods import builtin_methods
from training.evaluation.sets.own_tiles import OwnTiles, measure_own
from training.ground.progress import SILENT, Steps, progress, shown_by

REPEATS = 3
TILE_PX = 240 * 240
"""LR pixels of the tile that costs are stated for."""

MAX_TILES = 32
MAX_HR = 48
MAX_MADE_PAIRS = 12
"""Bounds of the evaluation, so that its time does not grow with the folders."""

EXPORT_ANSWERS = 150
"""Answers of an export in seconds of torch: two graphs at the parity gate, and the seams."""

EXPORT_S = 30.0
"""Time of an export that no answer takes: making the graphs."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured times, seconds.

    Attributes:
        step_s: One training step.
        answer_s: One answer of the network to a tile of `TILE_PX`.
        judge_s: Judgement of one picture of such a tile.
    """

    step_s: float
    answer_s: float
    judge_s: float


def measure_cost(settings: Settings, layout: Layout, *, overrides: Sequence[str]) -> Cost:
    """Measure the costs of a training and of its judgement.

    Args:
        settings: Options.
        layout: Folder with split and degradation.
        overrides: Changes to the recipe for the training.
    """
    ranges = read_ranges(layout).model_dump(mode="json")
    inline = ", ".join(f"{key} = {json.dumps(value)}" for key, value in ranges.items())
    system = System(
        name="own",
        kind="recipe",
        path=settings.recipe,
        overrides=(*overrides, f"degradation={{ {inline} }}"),
    )
    with progress("timing training steps"), shown_by(_quiet):
        step_s = time_steps(system, Data(root=layout.data, vgg16=settings.vgg16))
    with progress("timing the evaluation"), shown_by(_quiet):
        answer_s, judge_s = _judgement_s(settings, layout)
    return Cost(step_s=step_s, answer_s=answer_s, judge_s=judge_s)


def reserve_s(settings: Settings, layout: Layout, cost: Cost) -> float:
    """Return the seconds that export and evaluation will take, with a margin of a third."""
    sides, images = read_json(layout.split)["sides"], read_json(layout.check)["images"]
    scale = load_recipe(settings.recipe, overrides=settings.overrides).scale
    px = {
        side: {image["name"]: image["height_px"] * image["width_px"] for image in images[side]}
        for side in images
    }
    tiles = _of_tiles([px["lr"][name] for name in sides["lr"]["held_out"]], most=MAX_TILES)
    hr_px = [px["hr"][name] / scale**2 for name in sides["hr"]["files"]]
    pairs = float(min(MAX_MADE_PAIRS, len(sides["hr"]["held_out"])))
    if settings.pairs is not None:
        given = read_pairs(settings.pairs, scale=scale, window=settings.window)
        pairs += _of_tiles([pair.lr.size for pair in given], most=MAX_TILES)
    judged_s = 3 * (tiles + pairs) * (cost.judge_s + 2 * cost.answer_s)
    judged_s += _of_tiles(hr_px, most=MAX_HR) * cost.judge_s / 2
    export_s = (EXPORT_ANSWERS + min(64, len(sides["lr"]["training"]))) * cost.answer_s
    return 4 / 3 * (judged_s + export_s) + EXPORT_S


def _of_tiles(sizes_px: Sequence[float], *, most: int) -> float:
    """Return the area of pictures in tiles of `TILE_PX`; of many, `most` are judged."""
    if not sizes_px:
        return 0.0
    return min(most, len(sizes_px)) * statistics.fmean(sizes_px) / TILE_PX


def _judgement_s(settings: Settings, layout: Layout) -> tuple[float, float]:
    """Return the seconds of one answer, and of one judgement."""
    config = load_recipe(settings.recipe, overrides=settings.overrides)
    name, image = next(iter(images_of(layout, "training", "hr").items()))
    [pair] = make_pairs(
        {name: image},
        read_ranges(layout),
        scale=config.scale,
        seed=settings.seed,
        max_side_lr_px=MAX_SIDE_LR_PX,
    )
    network = build_network(config.generator.name, config.generator.hyper_parameters)
    if not isinstance(network, Generator):
        raise TypeError(f"{config.generator.name} needs a reference image: it cannot be served")
    merged = network.merged().eval()
    lr = torch.from_numpy(pair.lr.copy())[None, None].float() / 255.0
    own = OwnTiles(lr={pair.name: pair.lr}, hr=[pair.hr])
    bicubic = [m for m in builtin_methods(scale=config.scale) if m.name == "bicubic"]
    of_a_tile = TILE_PX / pair.lr.size
    with torch.inference_mode():
        answer_s = typical_s(lambda: merged(lr))
    return answer_s * of_a_tile, typical_s(lambda: measure_own(own, bicubic)) * of_a_tile


def typical_s(work: Callable[[], object]) -> float:
    """Return the median seconds of some work, after a first time that does not count."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started_s = time.monotonic()
        work()
        seconds.append(time.monotonic() - started_s)
    return statistics.median(seconds)


@contextlib.contextmanager
def _quiet(
    what: str, total: int | None = None, *, unit: str = "step", done: int = 0
) -> Iterator[Steps]:
    """Show nothing: timed steps are not the training's."""
    del what, total, unit, done
    yield SILENT
