"""References of a benchmark's tiles, for networks that need one.

No torch here: a command compares its options with a folder's record before a network is loaded.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from training.data.picture_folder import PicturesError, file_digest
from training.evaluation.folders.benchmark import Benchmark, Tile

REFERENCES = "reference_hr"
"""Split of the benchmark that references come from: HR images of other places."""

ReferenceKind = Literal["own", "kind", "random", "fixed"]
"""Choices of a tile's reference: its own true HR image, an HR image of the same kind of scene, a
random HR image, or one image for all tiles."""

WORDS: Mapping[ReferenceKind, str] = {
    "own": "the tile's own true HR image",
    "kind": "an HR image of the same kind of scene",
    "random": "a random HR image",
    "fixed": "one HR image for all tiles",
}
"""Reference of a tile, in words."""


@dataclass(frozen=True, kw_only=True)
class ReferenceChoice:
    """How references are chosen.

    Attributes:
        kind: Choice.
        seed: Seed of the draws of "kind" and "random"; the others draw nothing.
        image: File of "fixed".
    """

    kind: ReferenceKind
    seed: int = 0
    image: Path | None = None


def choose_references(
    benchmark: Benchmark, tiles: Sequence[Tile], choice: ReferenceChoice
) -> dict[str, Path]:
    """Choose the reference of each tile; the draw depends on the seed and the tile's name alone.

    Returns:
        File of the reference by the tile's key.

    Raises:
        BenchmarkError: The benchmark has no HR images to choose from.
        PicturesError: It has none of a tile's kind of scene, or "fixed" names no image.
    """
    if choice.kind == "own":
        return {tile.key: tile.hr_path for tile in tiles}
    if choice.kind == "fixed":
        if choice.image is None:
            raise PicturesError("the reference 'fixed' needs an image; expected its file")
        return {tile.key: choice.image for tile in tiles}
    pool = benchmark.hr_tiles(REFERENCES)
    chosen: dict[str, Path] = {}
    for tile in tiles:
        of_kind = [hr.path for hr in pool if choice.kind == "random" or hr.scene == tile.scene]
        if not of_kind:
            raise PicturesError(
                f"{benchmark.path} has no image of the scene {tile.scene!r} in {REFERENCES}, for "
                f"{tile.key}; expected at least one"
            )
        seeds = (choice.seed, zlib.crc32(tile.split.encode()), int(tile.name))
        chosen[tile.key] = of_kind[int(np.random.default_rng(seeds).integers(len(of_kind)))]
    return chosen


def options_of(
    benchmark: Benchmark, checkpoint: Path, choice: ReferenceChoice, *, device: str
) -> dict[str, Any]:
    """Return all that a picture depends on in addition to its tile, as JSON-compatible values."""
    draws = choice.kind in ("kind", "random")
    return {
        "made_by": "semsr reference-sr",
        "checkpoint_sha256": file_digest(checkpoint),
        "reference": choice.kind,
        "seed": choice.seed if draws else None,
        "reference_image_sha256": file_digest(choice.image) if choice.image is not None else None,
        "benchmark_seed": benchmark.seed,
        "tile_px": benchmark.tile_px,
        "scale": benchmark.scale,
        # Sums are rounded in another order on a GPU.
        "device": device,
    }
