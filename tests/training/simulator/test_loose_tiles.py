"""Files of `simulate_tiles`: repeatable, true to their index, of the right sizes; the samples."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from training.simulator import simulate_tiles
from training.simulator.defects.registry import DEFECTS
from training.simulator.recipes import RECIPES
from training.simulator.scenes.registry import SCENES
from training.simulator.tile import TileRecipe, simulate_tile

SAMPLES = Path(__file__).parents[3] / "samples"


def test_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    """Two runs agree byte for byte, whatever their number of tiles and their truth."""
    simulate_tiles(tmp_path / "a", seed=11, count=2, tile_px=64, with_truth=True)
    simulate_tiles(tmp_path / "b", seed=11, count=2, tile_px=64, with_truth=True)
    simulate_tiles(tmp_path / "c", seed=11, count=1, tile_px=64)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 7  # two tiles with HR and mask, one index
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    lr = "0000_dense_lines.png"
    assert (tmp_path / "c" / lr).read_bytes() == (tmp_path / "a" / lr).read_bytes()
    assert not (tmp_path / "c" / "truth").exists()


def test_other_seeds_and_numbers_give_other_tiles() -> None:
    """Neither two seeds nor two tiles of a seed are alike."""
    recipe = TileRecipe("dense_holes")
    first, second, third = (
        simulate_tile(recipe, seed=seed, number=number, tile_px=64).lr
        for seed, number in ((1, 0), (2, 0), (1, 1))
    )
    assert np.abs(first - second).mean() > 5
    assert np.abs(first - third).mean() > 5


@pytest.mark.parametrize(
    ("tile_px", "scale", "hr_px"), [(240, 4, 960), (244, 4, 976), (232, 2, 464)]
)
def test_sizes_and_pixel_sizes_of_every_set(
    tmp_path: Path, tile_px: int, scale: int, hr_px: int
) -> None:
    """LR, HR and mask have the asked sizes, and PNGs carry 4 nm and 4 nm / scale a pixel."""
    index = simulate_tiles(
        tmp_path, seed=12, count=1, tile_px=tile_px, scale=scale, with_truth=True
    )
    document = json.loads(index.read_text(encoding="utf-8"))
    assert document["format_version"] == 1
    assert document["pixel_nm"] == {"lr": 4.0, "hr": 4.0 / scale}
    files = document["tiles"][0]["files"]
    expected = {"lr": (tile_px, 4.0), "hr": (hr_px, 4.0 / scale), "mask": (hr_px, 4.0 / scale)}
    for key, (side_px, pixel_nm) in expected.items():
        with Image.open(tmp_path / files[key]) as image:
            assert (image.mode, image.size) == ("L", (side_px, side_px))
            metres = 0.0254 / image.info["dpi"][0]
            assert metres * 1e9 == pytest.approx(pixel_nm, rel=1e-6)


def test_index_boxes_are_those_of_the_masks(tmp_path: Path) -> None:
    """Each recipe's defects are in the index, and their boxes bound the mask file."""
    index = simulate_tiles(tmp_path, seed=13, count=len(RECIPES), tile_px=96, with_truth=True)
    tiles = json.loads(index.read_text(encoding="utf-8"))["tiles"]
    for tile, recipe in zip(tiles, RECIPES, strict=True):
        assert tile["scene"] == recipe.scene
        assert tuple(defect["kind"] for defect in tile["defects"]) == recipe.defects
        with Image.open(tmp_path / tile["files"]["mask"]) as image:
            mask = np.asarray(image)
        assert set(np.unique(mask)) == ({0, 255} if recipe.defects else {0})
        for defect in tile["defects"]:
            rows, columns = np.nonzero(mask)
            box = {
                "left": columns.min(),
                "top": rows.min(),
                "right": columns.max() + 1,
                "bottom": rows.max() + 1,
            }
            assert defect["box_hr_px"] == box


def test_recipes_name_scenes_and_defects_that_there_are() -> None:
    """Every recipe of the loose tiles can be made."""
    assert {recipe.scene for recipe in RECIPES} <= set(SCENES)
    assert {kind for recipe in RECIPES for kind in recipe.defects} <= set(DEFECTS)


def test_clean_set_has_no_defects(tmp_path: Path) -> None:
    """Without defects the same scenes come out clean."""
    index = simulate_tiles(tmp_path, seed=13, count=len(RECIPES), tile_px=64, with_defects=False)
    tiles = json.loads(index.read_text(encoding="utf-8"))["tiles"]
    assert [tile["defects"] for tile in tiles] == [[]] * len(RECIPES)
    assert [tile["scene"] for tile in tiles] == [recipe.scene for recipe in RECIPES]


def test_tiff_holds_the_scan_in_16_bits_with_its_pixel_size(tmp_path: Path) -> None:
    """The TIFF is the PNG before rounding, over the full range, at 4 nm a pixel."""
    simulate_tiles(tmp_path, seed=14, count=2, tile_px=64, num_tiff=1)
    assert [path.name for path in tmp_path.glob("*.tif")] == ["0000_dense_lines.tif"]
    with tifffile.TiffFile(tmp_path / "0000_dense_lines.tif") as file:
        page = file.pages.first
        picture = page.asarray()
        numerator, denominator = page.tags["XResolution"].value
        unit = page.tags["ResolutionUnit"].value
    with Image.open(tmp_path / "0000_dense_lines.png") as image:
        rounded = np.asarray(image)
    assert picture.dtype == np.uint16
    assert (numerator / denominator, int(unit)) == (2_500_000.0, 3)
    assert np.abs(picture / 257 - rounded).max() <= 0.51
    assert np.unique(picture).size > 256


@pytest.mark.parametrize(
    "arguments",
    [{"count": 0}, {"seed": -1}, {"scale": 3}, {"scale": 0}, {"tile_px": 47}, {"num_tiff": 2}],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    """The message names what was expected and the value; nothing is written."""
    with pytest.raises(ValueError, match=r"expected .* got "):
        simulate_tiles(tmp_path / "out", **{"seed": 1, "count": 1, **arguments})
    assert not (tmp_path / "out").exists()


def test_shipped_samples_are_what_the_simulator_makes(tmp_path: Path) -> None:
    """Simulating again from the samples' seed gives their files, to 1 grey level."""
    shipped = json.loads((SAMPLES / "index.json").read_text(encoding="utf-8"))
    simulate_tiles(tmp_path, seed=shipped["seed"])
    made = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))
    _assert_same_index(shipped, made)
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == sorted(path.name for path in SAMPLES.glob("*.png"))
    for name in pictures:
        with Image.open(SAMPLES / name) as old, Image.open(tmp_path / name) as new:
            apart = np.abs(np.asarray(old, dtype=int) - np.asarray(new, dtype=int))
            assert old.size == (240, 240)
            assert apart.max() <= 1
        assert (SAMPLES / name).stat().st_size < 60_000


def _assert_same_index(shipped: dict[str, Any], made: dict[str, Any]) -> None:
    """Compare what both say; boxes, which the samples took from the height, to 6 HR pixels."""
    for side, mode in shipped["modes"].items():
        assert mode == {key: made["modes"][side][key] for key in mode}
    for key in shipped.keys() - {"modes", "tiles"}:
        assert shipped[key] == made[key]
    for old, new in zip(shipped["tiles"], made["tiles"], strict=True):
        assert {**old, "defects": None} == {**new, "defects": None}
        for before, after in zip(old["defects"], new["defects"], strict=True):
            assert before["kind"] == after["kind"]
            assert before["box_hr_px"] == pytest.approx(after["box_hr_px"], abs=6)
