"""Writes simulated tiles: LR pictures, HR truth and defect masks on request, and one index.

The last step of the simulator and its public entry: `simulate_tiles` (`semsr simulate --tiles`).

    out/0000_dense_lines.png         LR tile as inspection sees it, 8-bit grey, pixel size in pHYs
    out/0000_dense_lines.tif         the same before rounding to 8 bits (first `num_tiff` tiles)
    out/truth/hr/…, out/truth/mask/… the scene as review sees it; 255 where a defect changed it
    out/index.json                   how every tile was made, and its defects
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from training.ground.progress import tracked
from training.ground.whole_file import write_whole_text
from training.simulator.capture import REVIEW, STEADY_INSPECTION
from training.simulator.defects.planting import PlantedDefect
from training.simulator.pictures import to_uint8, to_uint16, write_png, write_tiff
from training.simulator.recipes import RECIPES, TileRecipe
from training.simulator.tile import (
    FINE_PER_LR,
    LR_PIXEL_NM,
    SimulatedTile,
    any_in_blocks,
    simulate_tile,
)

FORMAT_VERSION = 1


def simulate_tiles(
    out: Path,
    *,
    seed: int,
    count: int = len(RECIPES),
    tile_px: int = 240,
    scale: int = 4,
    with_truth: bool = False,
    with_defects: bool = True,
    num_tiff: int = 0,
) -> Path:
    """Write `count` simulated tiles and their index to `out`, the same for the same arguments.

    A tile depends on `seed` and its number only, not on `count` nor on what else is written.

    Args:
        out: Folder, made where absent; files of the same names are replaced.
        seed: Seed, at least 0.
        count: Number of tiles; `RECIPES` gives what each shows.
        tile_px: Side of an LR tile, at least 48.
        scale: HR pixels per LR pixel, a divisor of 4.
        with_truth: Whether HR pictures and defect masks are written under `out/truth` too.
        with_defects: Plant the recipes' defects; without, every tile is clean.
        num_tiff: Number of tiles that are written as 16-bit TIFF too.

    Returns:
        Path of the index.

    Raises:
        ValueError: A number is out of its range.
    """
    if count < 1 or not 0 <= num_tiff <= count:
        raise ValueError(
            f"expected count >= 1 and 0 <= num_tiff <= count, got {count} and {num_tiff}"
        )
    entries = []
    for number in tracked(range(count), "simulating tiles"):
        recipe = RECIPES[number % len(RECIPES)]
        if not with_defects:
            recipe = TileRecipe(recipe.scene)
        tile = simulate_tile(
            recipe,
            seed=seed,
            number=number,
            tile_px=tile_px,
            scale=scale,
            inspection=STEADY_INSPECTION,
            is_limited=False,
        )
        name = f"{number:04d}_{recipe.label}"
        entry = _write_tile(
            out, name, tile, scale=scale, with_truth=with_truth, with_tiff=number < num_tiff
        )
        entries.append({**entry, "scene": recipe.scene, "parameters": tile.parameters})
    index = out / "index.json"
    document = {
        "format_version": FORMAT_VERSION,
        "seed": seed,
        "scale": scale,
        "tile_px": tile_px,
        "pixel_nm": {"lr": LR_PIXEL_NM, "hr": LR_PIXEL_NM / scale},
        "modes": {"lr": asdict(STEADY_INSPECTION), "hr": asdict(REVIEW)},
        "tiles": entries,
    }
    write_whole_text(index, json.dumps(document, indent=2) + "\n")
    return index


def _write_tile(
    out: Path, name: str, tile: SimulatedTile, *, scale: int, with_truth: bool, with_tiff: bool
) -> dict[str, Any]:
    hr_pixel_nm = LR_PIXEL_NM / scale
    out.mkdir(parents=True, exist_ok=True)
    files = {"lr": f"{name}.png"}
    write_png(out / files["lr"], to_uint8(tile.lr), LR_PIXEL_NM, is_small=True)
    if with_tiff:
        files["lr_tiff"] = f"{name}.tif"
        write_tiff(out / files["lr_tiff"], to_uint16(tile.lr), LR_PIXEL_NM)
    if with_truth:
        files["hr"] = f"truth/hr/{name}.png"
        files["mask"] = f"truth/mask/{name}.png"
        for key, picture in (("hr", to_uint8(tile.hr)), ("mask", np.uint8(255) * tile.mask)):
            (out / files[key]).parent.mkdir(parents=True, exist_ok=True)
            write_png(out / files[key], picture.astype(np.uint8), hr_pixel_nm)
    boxes = _boxes(tile.defects, FINE_PER_LR // scale)
    return {"name": name, "files": files, "defects": boxes}


def _boxes(defects: Sequence[PlantedDefect], fine_per_hr: int) -> list[dict[str, Any]]:
    """Return kind and bounding box in HR pixels, the right and lower ends exclusive."""
    boxes = []
    for defect in defects:
        rows, columns = np.nonzero(any_in_blocks(defect.mask, fine_per_hr))
        box = {
            "left": int(columns.min()),
            "top": int(rows.min()),
            "right": int(columns.max()) + 1,
            "bottom": int(rows.max()) + 1,
        }
        boxes.append({"kind": defect.kind, "box_hr_px": box})
    return boxes
