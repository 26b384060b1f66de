"""Choice and drawing of the report's pictures: tiles, close-ups of defects, gradients, curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from training.evaluation.compared.methods import BICUBIC, TRUE_HR, Method
from training.evaluation.folders.benchmark import Picture, Tile
from training.evaluation.folders.real_folders import RealPair, RealSets
from training.evaluation.judging.summary import EvaluationSet, MethodSummary
from training.evaluation.report.pictures import (
    close_up,
    draw_froc,
    draw_gradients,
    draw_spectra,
    repeated,
    side_by_side,
)
from training.evaluation.report.report import PictureEntry
from training.evaluation.sets.measurement import DefectTile, Measured
from training.evaluation.sets.own_tiles import OwnTiles
from training.evaluation.sets.reference import Reference
from training.ground.whole_file import whole_file

MAX_TRIPLETS = 4
MAX_CLOSE_UPS = 12
GRADIENT_CROP_PX = 320
REAL_CROP_PX = 480
MAX_OWN_TILES = 12
MAX_OWN_HR = 4
FOLDER = "pictures"


def illustrate(
    methods: Sequence[Method],
    tiles: EvaluationSet,
    summaries: Mapping[str, MethodSummary],
    reference: Reference,
    measured: Mapping[str, Sequence[Measured]],
    *,
    out: Path,
) -> list[PictureEntry]:
    """Draw all pictures of a benchmark's results into `out/pictures`.

    Args:
        methods: Methods in the report's order.
        tiles: Tiles of the test set.
        summaries: Method name to figures.
        reference: Reference, for spectra.
        measured: Method name to the measurements of the tiles with defects: close-ups show, for
            each kind of defect, the one that the first candidate keeps worst.
        out: Folder of the report.
    """
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    draw_froc(
        out / FOLDER / "froc.png",
        {name: summary.scores for name, summary in summaries.items()},
        {
            name: (item.figures["alarms_per_tile"].value, item.figures["recall"].value)
            for name, item in summaries.items()
            if {"alarms_per_tile", "recall"} <= item.figures.keys()
        },
    )
    draw_spectra(
        out / FOLDER / "spectra.png",
        {name: summary.spectra for name, summary in summaries.items()},
        reference.spectra,
    )
    entries = [
        PictureEntry(
            file=f"{FOLDER}/froc.png",
            section="detection",
            caption="Recall over false alarms; each method may choose its own threshold.",
        ),
        PictureEntry(
            file=f"{FOLDER}/spectra.png",
            section="background",
            caption="Mean spectra less the reference's; the band is ±2 dB. Below 0: too smooth.",
        ),
    ]
    shown = _first_candidate(methods)
    entries += _triplets(shown, tiles.defect, out)
    entries += _close_ups(methods, tiles.defect, measured[shown.name], out)
    return entries + _gradient_maps(methods, tiles.clean, out)


def illustrate_real(
    folders: Sequence[RealSets], methods: Sequence[Method], *, out: Path
) -> list[PictureEntry]:
    """Draw the real pairs, the real defects and the LR tiles without reference."""
    entries = []
    for sets in folders:
        start = f"real_{sets.name}_" if sets.name else "real_"
        groups: tuple[tuple[str, Sequence[RealPair]], ...] = (
            ("pair", sets.pairs),
            ("defect", sets.defects),
        )
        for label, pairs in groups:
            for pair in pairs:
                pictures = _real_row(methods, pair.lr) | {"HR": pair.hr}
                entries.append(_real_picture(f"{start}{label}_{pair.name}", pictures, out))
        for name, lr in sets.lone_lr.items():
            entries.append(_real_picture(f"{start}lone_{name}", _real_row(methods, lr), out))
    return entries


def illustrate_own(
    own: OwnTiles, methods: Sequence[Method], *, out: Path, scale: int
) -> list[PictureEntry]:
    """Draw the middle of the first own tiles by every method, and of the first HR pictures."""
    entries = []
    for number, (name, lr) in enumerate(list(own.lr.items())[:MAX_OWN_TILES]):
        row = _real_row(methods, lr, scale=scale)
        entries.append(_middles(f"own_{number:02d}", row, out, section="own", title=name))
    for number, pair in enumerate(own.pairs[:MAX_OWN_TILES]):
        row = _real_row(methods, pair.lr, scale=scale) | {"HR": pair.hr}
        entries.append(
            _middles(f"own_pair_{number:02d}", row, out, section="own", title=f"pair {pair.name}")
        )
    if own.hr:
        shown = {f"HR {number}": hr for number, hr in enumerate(own.hr[:MAX_OWN_HR], start=1)}
        entries.append(_middles("own_hr", shown, out, section="own", title="HR of other places"))
    return entries


def _real_row(methods: Sequence[Method], lr: Picture, *, scale: int = 4) -> dict[str, Picture]:
    row = {"LR": repeated(lr, scale=scale)}
    for method in methods:
        if method.upscale is not None:
            row[method.name] = method.upscale(lr)
    return row


def _real_picture(name: str, pictures: Mapping[str, Picture], out: Path) -> PictureEntry:
    return _middles(name, pictures, out, section="real", title=name)


def _middles(
    name: str, pictures: Mapping[str, Picture], out: Path, *, section: str, title: str
) -> PictureEntry:
    """Draw the middles of pictures side by side, as large as the smallest allows."""
    side_px = min(REAL_CROP_PX, *(side for item in pictures.values() for side in item.shape))
    cut = {}
    for key, item in pictures.items():
        y, x = ((side - side_px) // 2 for side in item.shape)
        cut[key] = item[y : y + side_px, x : x + side_px]
    return _saved(side_by_side(cut), name, section, f"{title}: middle of {', '.join(cut)}", out)


def _triplets(method: Method, tiles: Sequence[Tile], out: Path) -> list[PictureEntry]:
    """Draw LR | SR | true HR of one whole tile per kind of scene, at most `MAX_TRIPLETS`."""
    by_scene: dict[str, Tile] = {}
    for tile in tiles:
        by_scene.setdefault(tile.scene, tile)
    entries = []
    for tile in list(by_scene.values())[:MAX_TRIPLETS]:
        lr, hr = tile.lr(), tile.hr()
        scale = hr.shape[0] // lr.shape[0]
        picture = side_by_side(
            {
                "LR (pixels repeated)": repeated(lr, scale=scale),
                method.name: _rendered(method, tile),
                TRUE_HR: hr,
            },
            boxes=[(defect.box_hr_px, defect.group) for defect in tile.defects],
        )
        kinds = ", ".join(defect.kind for defect in tile.defects)
        colours = "red: unseen kinds, blue: planted, orange: unknown"
        caption = f"{tile.key}, {tile.scene}: {kinds}. Boxes, {colours}."
        entries.append(_saved(picture, f"tile_{tile.name}", "defects", caption, out))
    return entries


def _close_ups(
    methods: Sequence[Method], tiles: Sequence[Tile], measured: Sequence[Measured], out: Path
) -> list[PictureEntry]:
    """Draw, for each kind of defect, the one with the worst local correlation, by every method."""
    worst: dict[str, tuple[float, Tile, int]] = {}
    for tile, item in zip(tiles, measured, strict=True):
        if not isinstance(item, DefectTile):
            continue
        for number, (defect, value) in enumerate(zip(tile.defects, item.correlations, strict=True)):
            if defect.kind not in worst or value < worst[defect.kind][0]:
                worst[defect.kind] = (value, tile, number)
    entries = []
    for kind, (value, tile, number) in sorted(worst.items())[:MAX_CLOSE_UPS]:
        defect = tile.defects[number]
        lr, hr = tile.lr(), tile.hr()
        rows, columns, box = close_up(defect, hr.shape)
        pictures = {"LR": repeated(lr, scale=hr.shape[0] // lr.shape[0])[rows, columns]}
        for method in methods:
            pictures[method.name] = _rendered(method, tile)[rows, columns]
        picture = side_by_side(pictures, boxes=[(box, defect.group)], zoom=2)
        caption = (
            f"{kind} ({defect.group}), {tile.key}, {defect.size_hr_px:.0f} px, contrast to noise "
            f"{defect.contrast_to_noise:.1f}: the worst kept of its kind, local correlation "
            f"{value:.2f}"
        )
        entries.append(_saved(picture, f"defect_{kind}", "defects", caption, out))
    return entries


def _gradient_maps(
    methods: Sequence[Method], tiles: Sequence[Tile], out: Path
) -> list[PictureEntry]:
    by_scene: dict[str, Tile] = {}
    for tile in tiles:
        by_scene.setdefault(tile.scene, tile)
    chosen = [m for m in methods if m.name in {BICUBIC, TRUE_HR} or m.role == "candidate"]
    entries = []
    for scene, tile in list(by_scene.items())[:2]:
        cut = slice(0, GRADIENT_CROP_PX)
        name = f"gradients_{scene}"
        draw_gradients(
            out / FOLDER / f"{name}.png",
            {method.name: _rendered(method, tile)[cut, cut] for method in chosen},
        )
        entries.append(
            PictureEntry(
                file=f"{FOLDER}/{name}.png",
                section="gradients",
                caption=f"Gradient maps of {tile.key} ({scene}), one colour scale.",
            )
        )
    return entries


def _first_candidate(methods: Sequence[Method]) -> Method:
    candidates = [method for method in methods if method.role == "candidate"]
    return candidates[0] if candidates else methods[0]


def _rendered(method: Method, tile: Tile) -> Picture:
    return tile.hr() if method.render is None else method.render(tile)


def _saved(picture: Image.Image, name: str, section: str, caption: str, out: Path) -> PictureEntry:
    path = out / FOLDER / f"{name}.png"
    with whole_file(path) as part:
        picture.save(part)
    return PictureEntry(file=f"{FOLDER}/{name}.png", section=section, caption=caption)
