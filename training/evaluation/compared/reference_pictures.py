"""Pictures of a benchmark's tiles by a network that needs a reference: `semsr reference-sr`.

A bundle cannot hold such a network, so that it is judged by finished pictures
(`semsr evaluate --images`).
"""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models import CheckpointInfo, ReferenceNetwork, load_network
from training.data.picture_folder import PictureFolder, PicturesError, source_digest
from training.evaluation.folders.benchmark import Benchmark, read_png
from training.evaluation.folders.references import WORDS, ReferenceChoice, choose_references
from training.ground.progress import progress
from training.methods.parts.referenced import upscale_with
from training.run.trained import facts_of_training

OFFLINE = "needs a reference image, which an LR tile comes without"


@dataclass(frozen=True, kw_only=True)
class MadePictures:
    """Result of `write_pictures`.

    Attributes:
        total: Pictures in the folder of the tiles asked for.
        made: Number of them that were made in this call.
        seconds_a_tile: Median time of a picture made in this call, without reading and writing;
            None where none was made.
    """

    total: int
    made: int
    seconds_a_tile: float | None


def write_pictures(
    checkpoint: Path,
    benchmark: Benchmark,
    folder: PictureFolder,
    *,
    splits: Sequence[str],
    choice: ReferenceChoice,
    limit: int | None = None,
    device: str = "cpu",
) -> MadePictures:
    """Make the pictures of a benchmark's tiles that are not there yet.

    Args:
        checkpoint: File of a network that takes a reference.
        benchmark: Benchmark with the tiles and their references.
        folder: An opened folder, with the options of `references.options_of`.
        splits: Names of the splits, such as `test_clean`.
        choice: Choice of the references.
        limit: Tiles of each split; None for all.
        device: Device that the network runs on, "cpu" or "cuda".

    Raises:
        FileNotFoundError: There is no checkpoint.
        CheckpointError: The file is not a semsr checkpoint.
        PicturesError: The checkpoint holds a generator, which takes LR tiles alone, or a network of
            another scale; or a finished picture was made from another tile or reference.
        BenchmarkError: The benchmark lacks a split or a picture.
    """
    found = [tile for split in splits for tile in benchmark.tiles(split)[:limit]]
    chosen = choose_references(benchmark, found, choice)
    tiles = {f"{tile.key}.png": (tile, chosen[tile.key]) for tile in found}
    network, info = _load(checkpoint, benchmark)
    network.to(device)
    facts = facts_of_training(
        info.training,
        summary=f"{info.generator} with {WORDS[choice.kind]} as reference",
        offline=OFFLINE,
    )
    # The last one is kept: with one reference for all it is read once.
    read = functools.lru_cache(maxsize=1)(read_png)
    sources = {name: source_digest(tile.lr(), read(path)) for name, (tile, path) in tiles.items()}
    missing = folder.begin(facts, sources)
    seconds: list[float] = []
    done = len(tiles) - len(missing)
    with progress("super-resolving with references", len(tiles), unit="tile", done=done) as steps:
        for name in missing:
            steps.say(name)
            tile, path = tiles[name]
            lr, reference = tile.lr(), read(path)
            started = time.perf_counter()
            sr = upscale_with(network, lr, reference)
            seconds.append(time.perf_counter() - started)
            expected = tuple(benchmark.scale * side for side in lr.shape)
            if sr.shape != expected:
                raise PicturesError(
                    f"the network answered {sr.shape} for {tile.key}; expected {expected}"
                )
            folder.save(
                name,
                sr,
                pixel_nm=benchmark.lr_pixel_nm / benchmark.scale,
                reference=_name(path, benchmark),
            )
            steps.update()
    median_s = float(np.median(seconds)) if seconds else None
    return MadePictures(total=len(tiles), made=len(missing), seconds_a_tile=median_s)


def _load(checkpoint: Path, benchmark: Benchmark) -> tuple[ReferenceNetwork, CheckpointInfo]:
    network, info = load_network(checkpoint)
    if not isinstance(network, ReferenceNetwork):
        raise PicturesError(
            f"{checkpoint} holds {info.generator!r}, which takes LR tiles alone; expected a "
            "network that takes a reference (semsr evaluate --bundle judges the other kind)"
        )
    if network.scale != benchmark.scale:
        raise PicturesError(
            f"{checkpoint} holds a network of scale {network.scale}; expected the benchmark's, "
            f"{benchmark.scale}"
        )
    return network, info


def _name(path: Path, benchmark: Benchmark) -> str:
    inside = path.is_relative_to(benchmark.path)
    return path.relative_to(benchmark.path).as_posix() if inside else path.name
