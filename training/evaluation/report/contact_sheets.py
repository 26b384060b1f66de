"""Contact sheets of whole tiles at full size: LR by bicubic, every method, and HR, side by side.

Each tile gives one PNG for visual comparison. One gain and one offset fit each picture to the greys
of the LR tile, so that tone does not hide differences. Boxes mark outlines that the first candidate
lost (red) or invented (blue).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.evaluation.compared.methods import Method
from training.evaluation.folders.benchmark import Box, Picture
from training.evaluation.folders.real_folders import RealSets
from training.evaluation.report.pictures import side_by_side
from training.evaluation.sets.own_tiles import OwnTiles
from training.evaluation.sets.real_tiles import RealReport
from training.ground.baselines import bicubic, fit_gain_offset
from training.ground.progress import tracked
from training.ground.whole_file import whole_file

LR_CAPTION = "LR, bicubic"
MARKS = {"lost": "unseen", "invented": "planted"}
"""Colours of boxes, as those of groups of defects: lost red, invented blue."""

BOX_HALF_PX = 6
"""Half the side of a box around an outline, in LR pixels."""


def draw_real_sheets(
    folders: Sequence[RealSets], methods: Sequence[Method], report: RealReport, *, folder: Path
) -> None:
    """Draw a sheet of every real tile, `SET_NAME.png` in the folder, made where absent."""
    candidates = _candidates(methods)
    for sets in folders:
        start = f"{sets.name}_" if sets.name else ""
        tiles = [("real_pairs", pair.name, pair.lr, pair.hr) for pair in sets.pairs]
        tiles += [("real_defects", pair.name, pair.lr, pair.hr) for pair in sets.defects]
        alone = (("without_reference", sets.lone_lr), ("background", sets.background_lr))
        lonely = [(label, name, lr, None) for label, group in alone for name, lr in group.items()]
        for label, name, lr, hr in tracked([*tiles, *lonely], "drawing sheets", unit="sheet"):
            of_set = f"{sets.name}: {label}" if sets.name else label
            marks = [
                (place.x_px, place.y_px, group)
                for row in report.outlines
                if candidates and (row.set, row.method) == (of_set, candidates[0].name)
                for group, places in (("lost", row.places), ("invented", row.invented_places))
                for place in places
                if place.image == name
            ]
            _draw(folder / f"{start}{label}_{name}.png", lr, candidates, hr=hr, marks=marks)


def draw_own_sheets(own: OwnTiles, methods: Sequence[Method], *, folder: Path) -> None:
    """Draw a sheet of every own tile and pair, named by their numbers in the report's order."""
    candidates = _candidates(methods)
    for number, lr in enumerate(tracked(own.lr.values(), "drawing sheets", total=len(own.lr))):
        _draw(folder / f"own_{number:04d}.png", lr, candidates)
    for number, pair in enumerate(own.pairs):
        _draw(folder / f"own_pair_{number:04d}.png", pair.lr, candidates, hr=pair.hr)


def _draw(
    path: Path,
    lr: Picture,
    methods: Sequence[Method],
    *,
    hr: Picture | None = None,
    marks: Sequence[tuple[int, int, str]] = (),
) -> None:
    answers = {method.name: method.answer(lr)[0] for method in methods}
    others = answers if hr is None else answers | {"HR": hr}
    if not others:
        return
    scale = next(iter(others.values())).shape[0] // lr.shape[0]
    enlarged = bicubic(lr, scale=scale)
    row = {LR_CAPTION: _grey(enlarged)}
    row |= {name: _grey(fit_gain_offset(other, enlarged)) for name, other in others.items()}
    boxes = [
        (_box(x * scale, y * scale, BOX_HALF_PX * scale, enlarged.shape), MARKS[group])
        for x, y, group in marks
    ]
    sheet = side_by_side(row, boxes=boxes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        sheet.save(part, format="PNG", compress_level=1)


def _candidates(methods: Sequence[Method]) -> list[Method]:
    return [
        method for method in methods if method.role != "built-in" and method.upscale is not None
    ]


def _grey(image: np.ndarray) -> Picture:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _box(x: int, y: int, half: int, shape: tuple[int, ...]) -> Box:
    height, width = shape
    return max(x - half, 0), max(y - half, 0), min(x + half, width), min(y + half, height)
