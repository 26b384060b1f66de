"""Pictures of the report: close-ups of own tiles and pairs by every method, side by side."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.evaluation.compared.methods import Method
from training.evaluation.folders.benchmark import Picture
from training.evaluation.folders.real_folders import RealPair
from training.evaluation.sets.own_tiles import OwnReport, OwnTile
from training.ground.progress import tracked
from training.ground.whole_file import whole_file

SIDE_HR_PX = 288
MAX_TILES = 6
MAX_GIVEN = 4
MAX_MADE = 3
MAX_HR = 4


def draw_pictures(
    folder: Path,
    *,
    own: OwnReport,
    lr: Mapping[str, Picture],
    hr: Mapping[str, Picture],
    given: Sequence[RealPair],
    made: Sequence[RealPair],
    methods: Sequence[Method],
    new: str,
) -> list[dict[str, Any]]:
    """Write the close-ups as PNG files; the worst tiles of the new model come first.

    Args:
        folder: Folder of the pictures; what it holds is removed.
        own: Measurements of the held-out tiles.
        lr: Held-out LR tiles by name.
        hr: HR images of other places.
        given: Pairs of the fab.
        made: Pairs made of held-out HR images.
        methods: Methods of the columns.
        new: Name of the new model.

    Returns:
        Rows with `section`, `title`, and `pictures` of `file` (below the acceptance's folder) and
        `caption`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    rows: list[dict[str, Any]] = []
    worst = sorted((row for row in own.tiles if row.method == new), key=_badness, reverse=True)
    for row in tracked(worst[:MAX_TILES], "drawing pictures", unit="tile"):
        tile = lr[row.name]
        answers = {"LR": tile} | {method.name: method.answer(tile)[0] for method in methods}
        rows.append(_row(folder, "tiles", row.name, answers, note=_note(row)))
    if hr:
        several = list(hr.items())[:: max(1, len(hr) // MAX_HR)][:MAX_HR]
        pictures = {name: _cut(picture, *_place(picture)) for name, picture in several}
        rows.append(_saved(folder, "hr", "HR of other places", pictures))
    for section, pairs in (("pairs", given[:MAX_GIVEN]), ("made", made[:MAX_MADE])):
        for pair in pairs:
            answers = {"LR": pair.lr} | {m.name: m.answer(pair.lr)[0] for m in methods}
            rows.append(_row(folder, section, pair.name, answers | {"HR": pair.hr}))
    return rows


def _badness(row: OwnTile) -> tuple[float, float]:
    flags = max(row.residual or 0.0, row.domain_distance or 0.0)
    return row.outlines_lost + row.outlines_invented + max(0.0, flags - 1.0), flags


def _note(row: OwnTile) -> str:
    parts = [f"outlines lost {row.outlines_lost}, invented {row.outlines_invented}"]
    if row.residual is not None:
        parts.append(f"residual {row.residual:.2f}")
    if row.domain_distance is not None:
        parts.append(f"domain distance {row.domain_distance:.2f} of the limit")
    if row.detections is not None:
        parts.append(f"detections {row.detections}")
    return ", ".join(parts)


def _row(
    folder: Path, section: str, title: str, answers: Mapping[str, Picture], *, note: str = ""
) -> dict[str, Any]:
    """Cut the place of most contrast out of all pictures of a tile."""
    lr = answers["LR"]
    height, width = next(picture for name, picture in answers.items() if name != "LR").shape
    scale = height // lr.shape[0]
    large = {**answers, "LR": lr.repeat(scale, axis=0).repeat(scale, axis=1)}
    y, x = _place(lr.repeat(scale, axis=0).repeat(scale, axis=1))
    cut = {name: _cut(picture[:height, :width], y, x) for name, picture in large.items()}
    return _saved(folder, section, title, cut, note=note)


def _saved(
    folder: Path, section: str, title: str, pictures: Mapping[str, Picture], *, note: str = ""
) -> dict[str, Any]:
    number = len(list(folder.glob(f"{section}_*_00.png"))) if folder.is_dir() else 0
    entries = []
    for column, (caption, picture) in enumerate(pictures.items()):
        path = folder / f"{section}_{number:02d}_{column:02d}.png"
        with whole_file(path) as part:
            Image.fromarray(picture).save(part, optimize=True)
        entries.append({"file": f"{folder.name}/{path.name}", "caption": caption})
    return {"section": section, "title": title, "note": note, "pictures": entries}


def _place(picture: Picture) -> tuple[int, int]:
    """Return the corner of the window of most contrast, of nine that cover the picture."""
    best, place = -1.0, (0, 0)
    for y in _starts(picture.shape[0]):
        for x in _starts(picture.shape[1]):
            contrast = float(np.std(_cut(picture, y, x)))
            if contrast > best:
                best, place = contrast, (y, x)
    return place


def _starts(side: int) -> list[int]:
    return sorted({0, max(0, (side - SIDE_HR_PX) // 2), max(0, side - SIDE_HR_PX)})


def _cut(picture: Picture, y: int, x: int) -> Picture:
    return np.ascontiguousarray(picture[y : y + SIDE_HR_PX, x : x + SIDE_HR_PX])
