"""Preconditions of an export, checked before minutes of work."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import Precision, SeamFigures
from export.seams import measure_halo
from models import Generator

RECALL_PRECISIONS: tuple[Precision, ...] = ("bf16", "int8")
"""Precisions that must also find as many defects: their grey levels alone do not show that."""


class ExportError(Exception):
    """A checkpoint cannot be exported as asked."""


def check_needs(
    precisions: Sequence[Precision],
    calibration: Sequence[npt.NDArray[np.uint8]],
    *,
    has_judge: bool,
    tile: tuple[int, int],
) -> None:
    """Reject an export at once if it would otherwise fail after minutes."""
    if "int8" in precisions and not calibration:
        raise ExportError("int8 needs calibration tiles: training LR tiles, never test tiles")
    sizes = {image.shape for image in calibration}
    if sizes - {tile}:
        raise ExportError(
            f"calibration tiles must be {tile[0]}x{tile[1]} like the bundle's, "
            f"found {sorted(sizes)}"
        )
    unjudged = [precision for precision in RECALL_PRECISIONS if precision in precisions]
    if unjudged and not has_judge:
        raise ExportError(
            f"{' and '.join(unjudged)} must find as many defects as fp32: a benchmark is needed"
        )


def check_enlarges(generator: Generator) -> None:
    """Reject a network for pictures that another method, such as ZSSR, has enlarged already."""
    if generator.scale == 1:
        raise ExportError(
            "the network has scale 1: it translates pictures that are enlarged already; expected "
            "one that takes LR tiles"
        )


def check_tile(generator: Generator, tile: tuple[int, int]) -> None:
    """Reject a tile whose sides are not multiples of the network's grid."""
    grid = generator.grid_px
    if tile[0] % grid or tile[1] % grid:
        raise ExportError(
            f"the tile is {tile[0]}x{tile[1]} px; the network works on a grid of {grid} px, so "
            f"that both sides must be multiples of {grid}"
        )


def halo_of(
    generator: Generator, tile: tuple[int, int], tiles: Sequence[npt.NDArray[np.uint8]]
) -> tuple[int, SeamFigures | None]:
    """Return the halo in LR pixels, and its measurement; unbounded networks get a quarter tile."""
    radius, seams = generator.receptive_radius_px, None
    if radius is None:
        # Instance norm makes every pixel depend on the whole tile: no halo can hide the seams, and
        # an overlap of a quarter at least keeps them from the worst of the border.
        return min(tile) // 4, None
    if generator.grid_px > 1:
        radius, seams = measure_halo(generator, tile=tile, radius_px=radius, tiles=tiles)
    if 2 * radius >= min(tile):
        raise ExportError(
            f"the network looks {radius} px beyond each pixel, which a tile of "
            f"{tile[0]}x{tile[1]} px has no room for"
        )
    return radius, seams
