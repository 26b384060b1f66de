"""Test tiles on which every graph is compared with torch, and the golden tile of every bundle.

Integer arithmetic and the PCG64 generator alone make them: the bytes are the same on every machine.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.registry import CPU_BATCH

Batch = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """One LR batch to compare on.

    Attributes:
        name: Name for people.
        lr: (N, 1, H, W) uint8.
        is_judged: Whether the tolerance applies to the case. It does not for pictures that no scan
            shows: white noise over all greys lies outside INT8's ranges, which come from real
            tiles.
    """

    name: str
    lr: Batch
    is_judged: bool = True


def golden_tile(tile: tuple[int, int]) -> Batch:
    """Make the tile that every bundle of that tile size carries: structure, edges and noise.

    It shows lines of several pitches and a disc on a shaded ground, with noise, to exercise many
    grey levels and every layer of a network.

    Returns:
        (1, 1, H, W) uint8.
    """
    height, width = tile
    rows, columns = np.mgrid[0:height, 0:width].astype(np.int64)
    ground = 40 + (60 * columns) // max(1, width)
    pitch = 6 + 6 * (rows * 4 // max(1, height))
    lines = np.where(columns % pitch < pitch // 2, 70, 0)
    disc = (rows - height // 2) ** 2 + (columns - width // 2) ** 2 < (min(height, width) // 6) ** 2
    noise = np.random.Generator(np.random.PCG64(7)).integers(-12, 13, size=(height, width))
    grey = np.where(disc, 200, ground + lines) + noise
    return np.clip(grey, 0, 255).astype(np.uint8)[None, None]


def flat(tile: tuple[int, int], grey: int) -> Batch:
    """A tile (1, 1, H, W) of one grey level."""
    return np.full((1, 1, *tile), grey, dtype=np.uint8)


def grey_ramp(tile: tuple[int, int]) -> Batch:
    """Make a tile of flat bars from black to white, (1, 1, H, W) uint8."""
    height, width = tile
    bars = max(2, height // 8)
    rows = np.rint(np.linspace(0, 255, bars)).astype(np.uint8).repeat(-(-height // bars))[:height]
    return np.broadcast_to(rows[:, None], (height, width)).copy()[None, None]


def standard_cases(tile: tuple[int, int], *, max_batch_size: int) -> list[Case]:
    """List the test batches of a graph: golden, random, flat, a full batch, and odd sizes."""
    height, width = tile
    random = np.random.Generator(np.random.PCG64(11))

    def noise(*shape: int) -> Batch:
        return random.integers(0, 256, size=shape, dtype=np.uint8)

    return [
        Case("golden", golden_tile(tile)),
        Case("random", noise(1, 1, height, width)),
        Case("grey ramp", grey_ramp(tile)),
        Case("batch", noise(min(max_batch_size, CPU_BATCH), 1, height, width)),
        # Smaller tiles, because the CPU that compares has to hold and compute them all.
        Case("full batch", noise(max_batch_size, 1, min(height, 48), min(width, 48))),
        Case("small", noise(3, 1, 32, 48)),
        Case("odd size", noise(2, 1, 33, 61)),
        Case("all black", flat(tile, 0)),
        Case("all white", flat(tile, 255)),
    ]
