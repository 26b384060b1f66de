"""Images of any size cut into tiles of one size, and the upscaled tiles put together again.

Engines run one shape. A smaller image is padded by reflection, and the result is cropped. A larger
image is cut into windows that overlap by the model's halo on both sides of a cut. Each window
contributes only pixels that no inner cut affects. Results are cropped, never blended, so that the
answer equals that of one large pass.

A network of several levels answers a shifted image differently. Windows therefore start at
multiples of its coarsest pixel, the grid. The last window may reach beyond the image, which is then
padded too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from service.ground.errors import UnsuitableImage


@dataclass(frozen=True, slots=True)
class Span:
    """One window along one axis, in pixels of the padded image.

    Attributes:
        start: Start of the window, which is one tile long.
        keep_from: First position that is taken from this window.
        keep_to: End of these positions (excluded); at most the image's length.
    """

    start: int
    keep_from: int
    keep_to: int


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Cuts of an image; tiles are numbered row by row.

    Attributes:
        height: Rows of the image.
        width: Columns of the image.
        tile: (height, width) of every tile.
        rows: Windows from top to bottom.
        columns: Windows from left to right.
    """

    height: int
    width: int
    tile: tuple[int, int]
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.rows) * len(self.columns)

    @property
    def is_single(self) -> bool:
        """Whether the image is exactly one tile, so that nothing is copied."""
        return (self.height, self.width) == self.tile

    def spans(self, index: int) -> tuple[Span, Span]:
        """Return the window of a tile along rows and along columns."""
        row, column = divmod(index, len(self.columns))
        return self.rows[row], self.columns[column]

    def split(self, image: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Return the tiles of an image.

        Args:
            image: (H, W) as planned, any type.

        Returns:
            (tile height, tile width) each, same type, mostly views that are not contiguous, of the
            image or of a padded copy; for an image of exactly one tile the image itself.

        Raises:
            ValueError: The image has another size than planned.
        """
        if image.shape != (self.height, self.width):
            raise ValueError(
                f"the plan is for {self.height}×{self.width} pixels, the image is {image.shape}"
            )
        if self.is_single:
            return [image]
        height, width = self.tile
        # Windows are sorted, so the last one reaches farthest.
        rows = self.rows[-1].start + height - self.height
        columns = self.columns[-1].start + width - self.width
        if rows or columns:
            # NumPy reflects as often as needed, and replicates an axis of one pixel.
            image = np.pad(image, ((0, rows), (0, columns)), mode="reflect")
        return [
            image[row.start : row.start + height, column.start : column.start + width]
            for row in self.rows
            for column in self.columns
        ]

    def merge(self, outputs: Sequence[npt.NDArray[Any]], *, scale: int) -> npt.NDArray[Any]:
        """Return the upscaled image from all upscaled tiles; `Canvas` takes them one by one.

        Args:
            outputs: (scale × tile height, scale × tile width) each, in the order of `split`.
            scale: Upscaling factor.

        Returns:
            (scale × H, scale × W), same type; for an image of exactly one tile its output itself.

        Raises:
            ValueError: Number or size of the outputs do not fit the plan.
        """
        if len(outputs) != self.count:
            raise ValueError(f"{len(outputs)} outputs for {self.count} tiles")
        height, width = self.tile
        if self.is_single and outputs[0].shape == (height * scale, width * scale):
            return outputs[0]
        canvas = Canvas(self, scale=scale, dtype=outputs[0].dtype)
        for index, output in enumerate(outputs):
            canvas.place(index, output)
        return canvas.pixels


# Images of one size recur; a plan is a few hundred numbers at most.
@lru_cache(maxsize=64)
def plan(height: int, width: int, *, tile: tuple[int, int], halo_px: int, grid_px: int) -> TilePlan:
    """Return the fewest windows that cover an image.

    Windows are spread evenly and meet in the middle of their overlap, so that every pixel kept is
    at least `halo_px` from any inner cut, mostly more. The edge of the image needs no halo.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        tile: (height, width) of the windows.
        halo_px: Number of input pixels beyond which a cut has no effect.
        grid_px: Grid in input pixels; windows start at its multiples.

    Raises:
        UnsuitableImage: The image exceeds the tile, and the tile is too small for two halos: this
            model accepts images of at most one tile.
        ValueError: The image is empty, the halo negative, or the grid is below 1.
    """
    if height < 1 or width < 1 or halo_px < 0 or grid_px < 1:
        raise ValueError(
            f"cannot tile {height}×{width} pixels with a halo of {halo_px} on a grid of {grid_px}"
        )
    return TilePlan(
        height,
        width,
        tile,
        _spans(height, tile[0], halo_px, grid_px),
        _spans(width, tile[1], halo_px, grid_px),
    )


class Canvas:
    """The upscaled image; tiles are copied into it in any order and from any thread.

    Regions of different tiles never overlap, so that threads need no lock.
    """

    def __init__(self, tile_plan: TilePlan, *, scale: int, dtype: npt.DTypeLike) -> None:
        self._plan = tile_plan
        self._scale = scale
        self.pixels: npt.NDArray[Any] = np.empty(
            (tile_plan.height * scale, tile_plan.width * scale), dtype
        )

    def place(self, index: int, output: npt.NDArray[Any]) -> None:
        """Copy a tile's contribution to its place.

        Args:
            index: Index of the tile in the list of `split`.
            output: (scale × tile height, scale × tile width).

        Raises:
            ValueError: The output has another size.
        """
        scale, (height, width) = self._scale, self._plan.tile
        if output.shape != (height * scale, width * scale):
            raise ValueError(
                f"tile {index} was returned as {output.shape}; expected "
                f"{(height * scale, width * scale)}"
            )
        row, column = self._plan.spans(index)
        self.pixels[
            row.keep_from * scale : row.keep_to * scale,
            column.keep_from * scale : column.keep_to * scale,
        ] = output[
            (row.keep_from - row.start) * scale : (row.keep_to - row.start) * scale,
            (column.keep_from - column.start) * scale : (column.keep_to - column.start) * scale,
        ]


def _spans(length: int, tile: int, halo_px: int, grid_px: int) -> tuple[Span, ...]:
    """Return the fewest windows of one axis."""
    if length <= tile:
        return (Span(0, 0, length),)
    steps = (tile - 2 * halo_px) // grid_px
    if steps < 1:
        raise UnsuitableImage(
            f"the image is {length} pixels high or wide; expected at most {tile}, because the "
            f"model looks {halo_px} pixels far, so that larger images cannot be cut into its tiles"
        )
    # In steps of the grid: the last window's start, which is rounded up.
    last = -(-(length - tile) // grid_px)
    count = 1 + -(-last // steps)
    starts = [index * last // (count - 1) * grid_px for index in range(count)]
    cuts = [(earlier + tile + later) // 2 for earlier, later in pairwise(starts)]
    edges = [0, *cuts, length]
    return tuple(
        Span(start, keep_from, keep_to)
        for start, keep_from, keep_to in zip(starts, edges[:-1], edges[1:], strict=True)
    )
