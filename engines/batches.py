"""Batches between the tiles of `Engine.run` and the arrays (N, 1, H, W) of a runtime."""

import mmap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engines.protocol import Engine, Tile


class EngineOutput(NamedTuple):
    """Results of a batch.

    Attributes:
        sr: (N, 1, scale*H, scale*W) uint8, C-contiguous.
        flags: (N, K) float32, columns as `bundle_format.bundle.FLAGS`.
    """

    sr: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.float32]


def run_batch(engine: Engine, lr: npt.NDArray[np.uint8]) -> EngineOutput:
    """Run an engine on a batch that is one array, into new memory.

    Args:
        engine: Loaded engine.
        lr: (N, 1, H, W) uint8, C-contiguous.
    """
    count, _, height, width = lr.shape
    sr = np.empty((count, 1, engine.scale * height, engine.scale * width), dtype=np.uint8)
    flags = engine.run([tile[0] for tile in lr], [tile[0] for tile in sr])
    return EngineOutput(sr, flags)


def known_tiles(engine: Engine, count: int, tile: tuple[int, int]) -> tuple[list[Tile], list[Tile]]:
    """Allocate black tiles and their answers in memory that is registered, as the service's is.

    An engine on a GPU is measured with it: it copies other memory more slowly.

    Args:
        engine: Loaded engine, which keeps the memory until it is closed.
        count: Number of tiles.
        tile: Height and width in LR pixels.
    """
    sides = tile, (engine.scale * tile[0], engine.scale * tile[1])
    lr_bytes, sr_bytes = (height * width for height, width in sides)
    used = count * (lr_bytes + sr_bytes)
    in_pages = -(-used // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = np.frombuffer(mmap.mmap(-1, in_pages), dtype=np.uint8)
    engine.register(pages)
    lr, sr = np.split(pages[:used], [count * lr_bytes])
    return list(lr.reshape(count, *sides[0])), list(sr.reshape(count, *sides[1]))


def gather(tiles: Sequence[Tile]) -> npt.NDArray[np.uint8]:
    """Make (N, 1, H, W) from N tiles; a single tile is not copied."""
    if len(tiles) == 1:
        return np.ascontiguousarray(tiles[0])[None, None]
    return np.stack(tiles)[:, None]


def answer_array(sr: Sequence[Tile]) -> npt.NDArray[np.uint8]:
    """Return the array (N, 1, sH, sW) that a runtime fills; `scatter` takes it on.

    For a single tile it is the caller's own memory.
    """
    if len(sr) == 1:
        return sr[0][None, None]
    return np.empty((len(sr), 1, *sr[0].shape), dtype=np.uint8)


def scatter(answers: npt.NDArray[np.uint8], sr: Sequence[Tile]) -> None:
    """Copy the answers of `answer_array` to their tiles, unless they are there already."""
    if len(sr) > 1:
        for answer, tile in zip(answers, sr, strict=True):
            np.copyto(tile, answer[0])
