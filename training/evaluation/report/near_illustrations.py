"""Pictures of near sets: LR | every method | HR, their gradient maps on one scale, spectra."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.evaluation.compared.methods import TRUE_HR, Method
from training.evaluation.folders.benchmark import Picture, Tile
from training.evaluation.report.illustrations import FOLDER, GRADIENT_CROP_PX
from training.evaluation.report.pictures import (
    draw_gradients,
    draw_spectra,
    repeated,
    side_by_side,
)
from training.evaluation.report.report import PictureEntry
from training.evaluation.sets.near_tiles import NearSet
from training.ground.whole_file import whole_file

MAX_SCENES = 3
"""Kinds of scenes of a set that are shown, one tile each."""

MAX_FLIPS = 6
"""Style flips of a set that are shown."""


def illustrate_near(
    sets: Mapping[str, tuple[Sequence[Tile], NearSet]], methods: Sequence[Method], *, out: Path
) -> list[PictureEntry]:
    """Draw the pictures of near sets into `out/pictures`.

    Args:
        sets: Name of a set to its tiles and its measurements.
        methods: Methods in the report's order.
        out: Folder of the report.
    """
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    entries: list[PictureEntry] = []
    for name, (tiles, measured) in sets.items():
        draw_spectra(
            out / FOLDER / f"near_{name}_spectra.png", measured.spectra, measured.reference
        )
        caption = f"{name}: mean spectra less HR's; the band is ±2 dB. Below 0: too smooth."
        entries.append(_entry(f"near_{name}_spectra", caption))
        by_scene: dict[str, Tile] = {}
        for tile in tiles:
            by_scene.setdefault(tile.scene, tile)
        for tile in list(by_scene.values())[:MAX_SCENES]:
            entries += _tile(tile, methods, out)
        numbered = {tile.name: tile for tile in tiles}
        for flip in measured.flips[:MAX_FLIPS]:
            method = next(method for method in methods if method.name == flip.method)
            entries.append(_flip(numbered[flip.tile], method, methods.index(method), out))
    return entries


def _tile(tile: Tile, methods: Sequence[Method], out: Path) -> list[PictureEntry]:
    hr = tile.hr()
    row = {method.name: _middle(_rendered(method, tile, hr)) for method in methods}
    lr = tile.lr()
    shown = {"LR (pixels repeated)": _middle(repeated(lr, scale=hr.shape[0] // lr.shape[0])), **row}
    stem = f"near_{tile.split}_{tile.name}"
    _save(shown, out / FOLDER / f"{stem}.png")
    draw_gradients(out / FOLDER / f"{stem}_gradients.png", row)
    return [
        _entry(stem, f"{tile.key}, {tile.scene}: middle of {', '.join(shown)}"),
        _entry(
            f"{stem}_gradients",
            f"Gradient maps of {tile.key} ({tile.scene}), one scale; bicubic shows the LR tile.",
        ),
    ]


def _flip(tile: Tile, method: Method, number: int, out: Path) -> PictureEntry:
    hr = tile.hr()
    shown = {method.name: _middle(_rendered(method, tile, hr)), TRUE_HR: _middle(hr)}
    stem = f"near_flip_{tile.split}_{tile.name}_{number}"
    _save(shown, out / FOLDER / f"{stem}.png")
    return _entry(stem, f"{tile.key}, {tile.scene}: {method.name} has another style than HR")


def _middle(picture: Picture) -> Picture:
    side_px = min(GRADIENT_CROP_PX, *picture.shape)
    y, x = ((side - side_px) // 2 for side in picture.shape)
    return picture[y : y + side_px, x : x + side_px]


def _rendered(method: Method, tile: Tile, hr: Picture) -> Picture:
    return hr if method.render is None else method.render(tile)


def _save(pictures: Mapping[str, Picture], path: Path) -> None:
    with whole_file(path) as part:
        side_by_side(pictures).save(part, format="PNG")


def _entry(stem: str, caption: str) -> PictureEntry:
    return PictureEntry(file=f"{FOLDER}/{stem}.png", section="near", caption=caption)
