"""Pictures of many tiles by internal learning, in a folder that a repeated call continues."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.images import FULL_WINDOW, ImageFileError, find_images, read_grey
from training.data.picture_folder import (
    PictureFacts,
    PictureFolder,
    PicturesError,
    picture_names,
    source_digest,
)
from training.ground.progress import progress
from training.internal_learning.options import Options

Tiles = Mapping[str, Callable[[], NDArray[np.uint8]]]
"""Functions that read a tile, (H, W) uint8, by the name of its picture."""


def folder_tiles(folder: Path, *, window: tuple[int, int] = FULL_WINDOW) -> Tiles:
    """List the images of a folder, for pictures of the same names as PNG.

    Args:
        folder: Folder of image files.
        window: 16-bit values that become 0 and 255.

    Raises:
        PicturesError: Two files would become one picture.
    """
    folder = folder.resolve()
    named = picture_names(find_images(folder, root=folder), folder)
    return {name: functools.partial(_read_tile, path, window) for name, path in named.items()}


def make_pictures(
    tiles: Tiles,
    folder: PictureFolder,
    options: Options,
    *,
    device: str = "cpu",
    together: int = 1,
) -> int:
    """Make the pictures that are not there yet; returns their number.

    Args:
        tiles: Tiles of the pictures, in order.
        folder: An opened folder.
        options: Options of the run.
        device: Device of the networks, `cpu` or `cuda`.
        together: Number of tiles that learn together: more memory, and less idle time on a GPU.

    Raises:
        PicturesError: A tile cannot be read, or its finished picture was made from another.
    """
    from training.internal_learning.zssr import enlarge_tiles

    facts = PictureFacts(
        summary=options.summary,
        is_short=options.is_short,
        trained_on="each tile itself",
        offline="it learns at inference time, for minutes a tile",
    )
    pixels = {name: read() for name, read in tiles.items()}
    missing = folder.begin(facts, {name: source_digest(tile) for name, tile in pixels.items()})
    done = len(tiles) - len(missing)
    with progress("learning from tiles", len(tiles), unit="tile", done=done) as shown:
        for group in _groups([(name, pixels[name]) for name in missing], together):
            names = group[0][0] + (f" and {len(group) - 1} more" if len(group) > 1 else "")

            def report(step: int, loss: float, names: str = names) -> None:
                shown.say(f"{names}: step {step} of {options.steps}, loss {loss:.4f}")

            started_s = time.monotonic()
            answers = enlarge_tiles(
                [tile for _, tile in group], options, device=device, report=report
            )
            seconds = (time.monotonic() - started_s) / len(group)
            for (name, _), answer in zip(group, answers, strict=True):
                folder.save(
                    name,
                    answer.picture,
                    seconds=round(seconds, 2),
                    steps=list(answer.steps),
                    last_rate=answer.last_rate,
                    noise_grey=round(answer.noise_grey, 3),
                )
                shown.update()
    return len(missing)


def _read_tile(path: Path, window: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        return read_grey(path, window=window)
    except ImageFileError as error:
        raise PicturesError(f"the tile {path} cannot be used: {error}") from error


def _groups(
    tiles: Sequence[tuple[str, NDArray[np.uint8]]], together: int
) -> Iterator[list[tuple[str, NDArray[np.uint8]]]]:
    """Part named tiles into groups of one size, in the order of the first of each size."""
    by_size: dict[tuple[int, ...], list[tuple[str, NDArray[np.uint8]]]] = {}
    for name, tile in tiles:
        by_size.setdefault(tile.shape, []).append((name, tile))
    for same in by_size.values():
        for first in range(0, len(same), together):
            yield same[first : first + together]
