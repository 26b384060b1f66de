"""Collects the results of tiles: merges the tiles of an image as they arrive, or lists tiles."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.batching.tile_runner import TileResult
from service.ground.stages import BatchTime
from service.images import codec, tiling
from service.images.window import Window, to_uint16


class TileAnswers(NamedTuple):
    """Super-resolved tiles of the model's own size.

    Attributes:
        sr: (s*H, s*W) uint8 of each tile.
        flags: (K,) float32 of each tile.
        stages_s: Seconds by stage: queue, infer.
        batches: Batches that ran them.
    """

    sr: list[npt.NDArray[np.uint8]]
    flags: list[npt.NDArray[np.float32]]
    stages_s: dict[str, float]
    batches: list[BatchTime]


async def collect_image(
    futures: deque[asyncio.Future[TileResult]],
    plan: tiling.TilePlan,
    *,
    scale: int,
    stretch: Window | None,
) -> tuple[codec.Pixels, list[npt.NDArray[np.float32]], list[BatchTime]]:
    """Wait for all tiles and put them together as they arrive, so that few are held at once.

    If a tile fails or the caller is cancelled, the other tiles leave the queue.

    Args:
        futures: One per tile, in the plan's order; emptied.
        plan: Plan by which the image was cut.
        scale: Upscaling factor.
        stretch: Window of a uint16 answer, or None for uint8.

    Returns:
        The whole image, the flags of its tiles, and the batches that ran them.
    """
    # In order, each once.
    batches: dict[BatchTime, None] = {}
    canvas: tiling.Canvas | None = None
    flags: list[npt.NDArray[np.float32]] = []
    try:
        for index in range(plan.count):
            # Taken out, because a finished future keeps its whole batch's output alive.
            result = await futures.popleft()
            batches[batch_of(result)] = None
            sr: codec.Pixels = result.sr if stretch is None else to_uint16(result.sr, stretch)
            # A copy: a view would keep the flags of the whole batch.
            flags.append(result.flags.copy())
            if plan.is_single:
                return sr, flags, list(batches)
            if canvas is None:
                canvas = tiling.Canvas(plan, scale=scale, dtype=sr.dtype)
            canvas.place(index, sr)
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    if canvas is None:
        raise ValueError("an image has at least one tile")
    return canvas.pixels, flags, list(batches)


async def collect_tiles(futures: Sequence[asyncio.Future[TileResult]]) -> list[TileResult]:
    """Wait for all tiles; if one fails or the caller is cancelled, none is left in the queue."""
    try:
        return [await future for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def batch_of(result: TileResult) -> BatchTime:
    """Return the batch that ran a tile."""
    return BatchTime(result.queue_s, result.infer_s, result.batch_size)
