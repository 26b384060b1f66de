"""Measures the halo of a network with several grids; it is at most the receptive radius.

The receptive field of a U-Net of four levels reaches 69 px, but its far end counts little: a nearer
cut already changes less than a grey level. So windows are computed alone and compared with the
whole image computed at once. The distance from a cut beyond which no image differs by more than
`MAX_SEAM` is rounded up to the network's grid. The halo is one step of the grid more, and at most
the receptive radius.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from bundle_format.bundle import SeamFigures
from export.cases import golden_tile
from export.to_onnx import GreyLevels
from models import Generator

Picture = npt.NDArray[np.uint8]
Upscale = Callable[[Picture], Picture]

MAX_SEAM = 1
"""Grey levels by which what is kept of a tile may differ from one whole pass."""

MAX_GIVEN = 4
"""Real tiles that are measured on; more take longer and change little."""

NOISE = 8.0
"""Noise of the simulated scenes, grey levels: that of a fast scan."""


def measure_halo(
    generator: Generator,
    *,
    tile: tuple[int, int],
    radius_px: int,
    tiles: Sequence[Picture] = (),
) -> tuple[int, SeamFigures]:
    """Measure the halo of a network with a grid.

    Args:
        generator: Generator with a bounded receptive field.
        tile: Height and width of the LR tile, multiples of its grid.
        radius_px: Receptive radius of the generator in LR pixels.
        tiles: Real LR tiles, (H, W) uint8; a few are taken.

    Returns:
        The halo in LR pixels, at most `radius_px`, and what was measured.
    """
    network = GreyLevels(generator)

    def upscale(image: Picture) -> Picture:
        with torch.inference_mode():
            lr = torch.from_numpy(np.ascontiguousarray(image))[None, None]
            return network(lr)[0][0, 0].numpy()

    grid, scale = generator.grid_px, generator.scale
    images = seam_images(tile, tiles)
    errors = np.max(
        [cut_errors(upscale, image, tile=tile, grid=grid, scale=scale) for image in images], axis=0
    )
    needed = seen_px(errors)
    halo_px = min(-(-needed // grid) * grid + grid, radius_px)
    kept = errors[halo_px:]
    figures = SeamFigures(
        max_error=int(kept.max()) if len(kept) else 0, images=len(images), radius_px=radius_px
    )
    return halo_px, figures


def seen_px(errors: npt.NDArray[np.int64]) -> int:
    """Return the least distance from which on no error is above `MAX_SEAM`.

    Args:
        errors: Errors by distance from the nearest cut, LR pixels, as `cut_errors` gives them.
    """
    seen = np.flatnonzero(errors > MAX_SEAM)
    return int(seen[-1]) + 1 if len(seen) else 0


def cut_errors(
    upscale: Upscale, image: Picture, *, tile: tuple[int, int], grid: int, scale: int
) -> npt.NDArray[np.int64]:
    """Compare windows within an image with the whole of it, computed at once.

    Args:
        upscale: (H, W) uint8 to (scale*H, scale*W) uint8.
        image: Two tiles high and wide.
        tile: Height and width of a window.
        grid: Step in LR pixels; windows start at its multiples.
        scale: Upscaling factor.

    Returns:
        Largest difference in grey levels for each distance from the window's nearest border, from 0
        to half a tile.
    """
    height, width = tile
    whole = upscale(image).astype(np.int16)
    rows, columns = np.arange(height), np.arange(width)
    distances = np.minimum(
        np.minimum(rows, height - 1 - rows)[:, None], np.minimum(columns, width - 1 - columns)
    )
    worst = np.zeros(int(distances.max()) + 1, dtype=np.int64)
    # Every side of both windows lies within the image.
    for row_share, column_share in ((0.5, 0.5), (0.75, 0.25)):
        row, column = (
            int(row_share * height) // grid * grid,
            int(column_share * width) // grid * grid,
        )
        window = upscale(image[row : row + height, column : column + width])
        kept = whole[
            row * scale : (row + height) * scale, column * scale : (column + width) * scale
        ]
        error = np.abs(kept - window).reshape(height, scale, width, scale).max(axis=(1, 3))
        np.maximum.at(worst, distances, error)
    return worst


def seam_images(tile: tuple[int, int], tiles: Sequence[Picture] = ()) -> list[Picture]:
    """Make the images that seams are measured on, (2*H, 2*W) uint8 each.

    The golden pattern, white noise, lines and holes under the noise of a fast scan, and real tiles,
    mirrored to that size.
    """
    height, width = 2 * tile[0], 2 * tile[1]
    random = np.random.Generator(np.random.PCG64(19))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    stripes = np.cos(2 * np.pi * (0.8 * columns + 0.6 * rows) / 17.0)
    lines = 60.0 + 90.0 / (1.0 + np.exp(-6.0 * stripes))
    away = np.hypot(rows % 22.0 - 11.0, columns % 22.0 - 11.0)
    holes = 150.0 - 100.0 / (1.0 + np.exp(2.0 * (away - 6.0)))
    scenes = [scene + NOISE * random.standard_normal(scene.shape) for scene in (lines, holes)]
    given = tiles[:: max(1, -(-len(tiles) // MAX_GIVEN))]
    return [
        golden_tile((height, width))[0, 0],
        random.integers(0, 256, (height, width), dtype=np.uint8),
        *(np.clip(np.rint(scene), 0, 255).astype(np.uint8) for scene in scenes),
        *(_mirrored(image[: tile[0], : tile[1]], (height, width)) for image in given),
    ]


def _mirrored(image: Picture, shape: tuple[int, int]) -> Picture:
    missing = [(0, size - side) for size, side in zip(shape, image.shape, strict=True)]
    return np.pad(image, missing, mode="reflect")
