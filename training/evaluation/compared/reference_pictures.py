"""Pictures of a benchmark's tiles by a network that needs a reference: `semsr reference-sr`.

A bundle cannot hold such a network, so that it is judged by finished pictures
(`semsr evaluate --images`). A picture that is there is not made again.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import CheckpointInfo, ReferenceNetwork, load_network
from training.evaluation.folders.benchmark import Benchmark, Picture, Tile, read_png
from training.evaluation.folders.reference_record import (
    ReferenceChoice,
    check_record,
    choose_references,
    options_of,
    write_record,
)
from training.ground.progress import progress
from training.methods.parts.referenced import upscale_with
from training.run.preparation import DeviceError
from training.simulator.pictures import write_png


class ReferencePicturesError(ValueError):
    """A checkpoint or a reference cannot be used for the pictures of a benchmark."""


@dataclass(frozen=True, kw_only=True)
class MadePictures:
    """Result of `write_pictures`.

    Attributes:
        total: Pictures in the folder of the tiles asked for.
        made: Number of them that were made in this call.
        seconds_a_tile: Median time of a picture made in this call, without reading and writing;
            None where none was made.
        network: Registry name of the network.
        training: Description of its training; see `models.CheckpointInfo`.
    """

    total: int
    made: int
    seconds_a_tile: float | None
    network: str
    training: Mapping[str, Any]


def write_pictures(
    checkpoint: Path,
    benchmark: Benchmark,
    out: Path,
    *,
    splits: Sequence[str],
    choice: ReferenceChoice,
    limit: int | None = None,
    device: str = "cpu",
) -> MadePictures:
    """Enlarge the tiles of splits, and write `<out>/<split>/<number>.png`.

    Every picture is written completely or not at all. After an interruption, repeat the call: it
    makes the pictures that are missing.

    Args:
        checkpoint: File of a network that takes a reference.
        benchmark: Benchmark with the tiles and their references.
        out: Folder of the pictures and their record; made where absent.
        splits: Names of the splits, such as `test_clean`.
        choice: Choice of the references.
        limit: Tiles of each split; None for all.
        device: Device that the network runs on, "cpu" or "cuda".

    Raises:
        FileNotFoundError: There is no checkpoint.
        CheckpointError: The file is not a semsr checkpoint.
        ReferencePicturesError: The checkpoint holds a generator, which takes LR tiles alone, or a
            network of another scale.
        ReferenceRecordError: `out` holds pictures made with other options, or other files.
        BenchmarkError: The benchmark lacks a split or a picture.
        DeviceError: There is no such device.
    """
    options = options_of(benchmark, checkpoint, choice, device=device)
    recorded = check_record(out, options)
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "the device is 'cuda', but torch finds no GPU on this machine; expected 'cpu', or a "
            "machine with one"
        )
    tiles = [tile for split in splits for tile in benchmark.tiles(split)[:limit]]
    references = choose_references(benchmark, tiles, choice)
    network, info = _load(checkpoint, benchmark)
    network.to(device)
    names = {key: _name(path, benchmark) for key, path in references.items()}
    out.mkdir(parents=True, exist_ok=True)
    write_record(out, options, {**recorded, **names})
    missing = [tile for tile in tiles if not _path(out, tile).is_file()]
    seconds = _write(network, benchmark, out, missing, references)
    return MadePictures(
        total=len(tiles),
        made=len(missing),
        seconds_a_tile=float(np.median(seconds)) if seconds else None,
        network=info.generator,
        training=info.training,
    )


def _write(
    network: ReferenceNetwork,
    benchmark: Benchmark,
    out: Path,
    tiles: Sequence[Tile],
    references: Mapping[str, Path],
) -> list[float]:
    read: dict[Path, Picture] = {}
    seconds: list[float] = []
    pixel_nm = benchmark.lr_pixel_nm / benchmark.scale
    with progress("super-resolving with references", len(tiles), unit="tile") as steps:
        for tile in tiles:
            path, lr = references[tile.key], tile.lr()
            if path not in read:
                # The last one is kept: with one reference for all it is read once.
                read = {path: read_png(path)}
            started = time.perf_counter()
            sr = upscale_with(network, lr, read[path])
            seconds.append(time.perf_counter() - started)
            expected = tuple(benchmark.scale * side for side in lr.shape)
            if sr.shape != expected:
                raise ReferencePicturesError(
                    f"the network answered {sr.shape} for {tile.key}; expected {expected}"
                )
            write_png(_path(out, tile), sr, pixel_nm)
            steps.say(tile.key)
            steps.update()
    return seconds


def _load(checkpoint: Path, benchmark: Benchmark) -> tuple[ReferenceNetwork, CheckpointInfo]:
    network, info = load_network(checkpoint)
    if not isinstance(network, ReferenceNetwork):
        raise ReferencePicturesError(
            f"{checkpoint} holds {info.generator!r}, which takes LR tiles alone; expected a "
            "network that takes a reference (semsr evaluate --bundle judges the other kind)"
        )
    if network.scale != benchmark.scale:
        raise ReferencePicturesError(
            f"{checkpoint} holds a network of scale {network.scale}; expected the benchmark's, "
            f"{benchmark.scale}"
        )
    return network, info


def _path(out: Path, tile: Tile) -> Path:
    return out / tile.split / f"{tile.name}.png"


def _name(path: Path, benchmark: Benchmark) -> str:
    inside = path.is_relative_to(benchmark.path)
    return path.relative_to(benchmark.path).as_posix() if inside else path.name


def describe(made: MadePictures, out: Path) -> dict[str, Any]:
    """Return a result as one row for machines."""
    return {
        "folder": str(out),
        "pictures": made.total,
        "made": made.made,
        "seconds_a_tile": made.seconds_a_tile,
    }
