"""The benchmark's splits: how many tiles of which size, with or without defects, and what is kept.

A tile depends on the benchmark's seed, its split and its number only: every split has a stream of
its own, so that no two show the same scene, and none of them one that `simulate_tile` shows for any
seed and number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from training.simulator.capture import (
    INSPECTION,
    NEAR_REVIEW,
    REVIEW,
    TOP_NEAR_REVIEW,
    TOP_REVIEW,
    CaptureMode,
)
from training.simulator.defects.registry import GROUPS, Group
from training.simulator.recipes import TileRecipe, draw_recipe
from training.simulator.scenes.registry import SCENES
from training.simulator.tile import SimulatedTile, render_tile

DEFECTS_PER_TILE = (3, 4, 5, 6)
"""Taken in turn, so that 64 tiles hold 288."""

EDGE_SCENES = ("dense_lines", "iso_lines")
"""Scenes whose edges can be placed against a noise-free picture."""


@dataclass(frozen=True)
class Split:
    """One part of the benchmark.

    Attributes:
        stream: Number of its stream of randomness, never used by another split.
        tiles: Number of tiles.
        folders: Picture to folder below the benchmark's: "lr", "hr", "mask", "noise_free".
        has_defects: Whether tiles hold 3 to 6 defects, or none.
        tile_px: Side of an LR tile.
        scale: HR pixels per LR pixel.
        inspection: Scan mode of LR tiles.
        review: Scan mode of HR tiles.
        groups: Groups of the kinds of its defects.
    """

    stream: int
    tiles: int
    folders: Mapping[str, str]
    has_defects: bool = False
    tile_px: int = 240
    scale: int = 4
    inspection: CaptureMode = INSPECTION
    review: CaptureMode = REVIEW
    groups: tuple[Group, ...] = GROUPS


def _test_split(
    name: str,
    *,
    stream: int,
    tiles: int,
    has_defects: bool,
    groups: tuple[Group, ...] = GROUPS,
) -> Split:
    folders = {"lr": f"{name}/lr", "hr": f"truth/{name}/hr"}
    if has_defects:
        folders["mask"] = f"truth/{name}/mask"
    if name == "test_clean":
        folders["noise_free"] = f"truth/{name}/noise_free"
    return Split(stream, tiles, folders, has_defects=has_defects, groups=groups)


def _near_split(
    name: str, *, stream: int, tiles: int = 28, scale: int = 4, is_top: bool = False
) -> Split:
    return Split(
        stream,
        tiles,
        {"lr": f"{name}/lr", "hr": f"{name}/hr"},
        tile_px=244 if scale == 4 else 232,
        scale=scale,
        inspection=TOP_NEAR_REVIEW if is_top else NEAR_REVIEW,
        review=TOP_REVIEW if is_top else REVIEW,
    )


SPLITS: Mapping[str, Split] = MappingProxyType(
    {
        "train_lr": Split(1, 20, {"lr": "train_lr"}),
        "train_hr": Split(2, 20, {"hr": "train_hr"}),
        "reference_hr": Split(3, 70, {"hr": "reference_hr"}),
        "test_defect": _test_split("test_defect", stream=4, tiles=64, has_defects=True),
        "test_clean": _test_split("test_clean", stream=5, tiles=200, has_defects=False),
        "thousand_defect": _test_split("thousand_defect", stream=6, tiles=500, has_defects=True),
        "thousand_clean": _test_split("thousand_clean", stream=7, tiles=500, has_defects=False),
        "x4_244": _near_split("x4_244", stream=8),
        "x2_232": _near_split("x2_232", stream=9, scale=2),
        "unknown_defect": _test_split(
            "unknown_defect", stream=10, tiles=84, has_defects=True, groups=("unknown",)
        ),
        "train_pairs": Split(11, 20, {"lr": "train_pairs/lr", "hr": "train_pairs/hr"}),
        "aei_x4": _near_split("aei_x4", stream=12, tiles=18),
        "aei_x2": _near_split("aei_x2", stream=13, tiles=18, scale=2),
        "cucmp_x4": _near_split("cucmp_x4", stream=14, tiles=21),
        "cucmp_x4_validation": _near_split("cucmp_x4_validation", stream=15, tiles=7),
        "cucmp_x4_top": _near_split("cucmp_x4_top", stream=16, tiles=14, is_top=True),
        "cucmp_x2": _near_split("cucmp_x2", stream=17, tiles=21, scale=2),
        "cucmp_x2_validation": _near_split("cucmp_x2_validation", stream=18, tiles=7, scale=2),
        "cucmp_x2_top": _near_split("cucmp_x2_top", stream=19, tiles=14, scale=2, is_top=True),
    }
)
"""Splits by name. The last eight have the numbers of tiles of the thesis's sets of appendix B: 18
pairs (AEI), and 42 of which 14 have another look (CuCMP), the other 28 cut into training and
validation."""

DEFAULT_SPLITS = ("train_lr", "train_hr", "reference_hr", "test_defect", "test_clean")


def plan_tile(split: Split, *, seed: int, number: int) -> TileRecipe:
    """Return what a tile of a split shows: kinds of scenes take turns, defects are drawn."""
    scene = tuple(SCENES)[number % len(SCENES)]
    if not split.has_defects:
        return TileRecipe(scene)
    count = DEFECTS_PER_TILE[number % len(DEFECTS_PER_TILE)]
    for_recipe = _sequences(split, seed=seed, number=number)[0]
    return draw_recipe(
        np.random.default_rng(for_recipe),
        defects=(count, count),
        scene=scene,
        groups=split.groups,
    )


def render_split_tile(split: Split, *, seed: int, number: int) -> SimulatedTile:
    """Return a tile of a split; its pictures are made when they are needed."""
    return render_tile(
        plan_tile(split, seed=seed, number=number),
        _sequences(split, seed=seed, number=number)[1],
        tile_px=split.tile_px,
        scale=split.scale,
        inspection=split.inspection,
        review=split.review,
    )


def render_without_defects(split: Split, *, seed: int, number: int) -> SimulatedTile:
    """Return the same tile as if nothing had been planted: the same scene, jitter and noise."""
    return render_tile(
        TileRecipe(plan_tile(split, seed=seed, number=number).scene),
        _sequences(split, seed=seed, number=number)[1],
        tile_px=split.tile_px,
        scale=split.scale,
        inspection=split.inspection,
        review=split.review,
    )


def _sequences(
    split: Split, *, seed: int, number: int
) -> tuple[np.random.SeedSequence, np.random.SeedSequence]:
    """Return the sources of a tile's recipe and of its pictures."""
    for_recipe, for_tile = np.random.SeedSequence(seed, spawn_key=(split.stream, number)).spawn(2)
    return for_recipe, for_tile
