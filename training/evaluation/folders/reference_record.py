"""References of a benchmark's tiles, and the record of a folder of pictures made with them.

    DIR/reference-sr.json   options that every picture in the folder was made with
    DIR/test_defect/0000.png …

No torch here: the options of a command are compared with the record before a network is loaded.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from training.evaluation.folders.benchmark import Benchmark, Tile
from training.ground.whole_file import write_whole_text

FILE_NAME = "reference-sr.json"
KIND = "semsr-reference-sr"
FORMAT_VERSION = 1
_HEADER = {"kind": KIND, "format_version": FORMAT_VERSION}

REFERENCES = "reference_hr"
"""Split of the benchmark that references come from: HR images of other places."""

ReferenceKind = Literal["own", "kind", "random", "fixed"]
"""Choices of a tile's reference: its own true HR image, an HR image of the same kind of scene, a
random HR image, or one image for all tiles."""


class ReferenceRecordError(ValueError):
    """A folder holds pictures made with other options, or no record of them."""


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
        ReferenceRecordError: It has none of a tile's kind of scene, or "fixed" names no image.
    """
    if choice.kind == "own":
        return {tile.key: tile.hr_path for tile in tiles}
    if choice.kind == "fixed":
        if choice.image is None:
            raise ReferenceRecordError("the reference 'fixed' needs an image; expected its file")
        return {tile.key: choice.image for tile in tiles}
    pool = benchmark.hr_tiles(REFERENCES)
    chosen: dict[str, Path] = {}
    for tile in tiles:
        of_kind = [hr.path for hr in pool if choice.kind == "random" or hr.scene == tile.scene]
        if not of_kind:
            raise ReferenceRecordError(
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
        "checkpoint_sha256": _sha256(checkpoint),
        "reference": choice.kind,
        "seed": choice.seed if draws else None,
        "reference_image_sha256": _sha256(choice.image) if choice.image is not None else None,
        "benchmark_seed": benchmark.seed,
        "tile_px": benchmark.tile_px,
        "scale": benchmark.scale,
        # Sums are rounded in another order on a GPU.
        "device": device,
    }


def check_record(out: Path, options: Mapping[str, Any]) -> dict[str, str]:
    """Check that pictures can be added to a folder; returns the references recorded so far.

    Raises:
        ReferenceRecordError: The folder's pictures were made with other options, its record has
            another format, or it holds other files and no record.
    """
    path = out / FILE_NAME
    if not path.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise ReferenceRecordError(
                f"{out} is not empty and holds no {FILE_NAME}; expected a new or empty folder"
            )
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReferenceRecordError(f"{path} is not JSON: {error}") from error
    document: Mapping[str, Any] = found if isinstance(found, dict) else {}
    made_with: Mapping[str, Any] = document.get("options") or {}
    # The format comes first: without it the options mean nothing.
    facts = [
        *((key, document.get(key), of) for key, of in _HEADER.items()),
        *((key, made_with.get(key), of) for key, of in options.items()),
    ]
    for key, recorded, wanted in facts:
        if recorded != wanted:
            raise ReferenceRecordError(
                f"{out} holds pictures made with {key} {recorded!r}; expected {wanted!r}, or "
                "another folder"
            )
    return dict(document.get("references") or {})


def write_record(out: Path, options: Mapping[str, Any], references: Mapping[str, str]) -> None:
    """Write the record of a folder atomically; `references` are names by the tiles' keys."""
    document = {
        **_HEADER,
        "options": dict(options),
        "references": dict(sorted(references.items())),
    }
    write_whole_text(out / FILE_NAME, json.dumps(document, indent=1) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
