"""Batches for training: crops of labelled tiles, turned and mirrored, with the labels' weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from training.detector.network import CELL_PX, SIZE_MULTIPLE_PX
from training.detector.tiles import LabelledTile

DEFECT_SHARE = 0.7
"""Share of crops that are laid over a defect; the others lie anywhere, also in clean tiles."""

USUAL_CELLS = 30
"""A defect of this many cells has weight 1 a cell. Others weigh as much in sum, within
`WEIGHT_LIMITS`, so that a small defect counts like a large one."""

WEIGHT_LIMITS = (0.3, 5.0)
GAIN_JITTER = 0.02
"""Tone varies by this share only: the detector must notice a wrong tone."""

OFFSET_JITTER_GREY = 1.2

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True)
class Batch:
    """Batch of one step.

    Attributes:
        image: (N, 1, S, S) float32 in [0, 1].
        target: (N, 1, S/4, S/4) float32, 1 in the cells of a defect.
        weight: The same shape; 0 in the cells next to a defect, whose label is open to doubt.
    """

    image: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor


class CropSampler:
    """Draws batches; the batch of a step depends on the seed and the step only."""

    def __init__(
        self, tiles: Sequence[LabelledTile], *, crop_px: int, batch_size: int, seed: int
    ) -> None:
        """See `train_detector` for the arguments.

        Raises:
            ValueError: The crop is not a multiple of 32, or a tile is smaller than it.
        """
        side_px = min((min(tile.hr.shape) for tile in tiles), default=0)
        if crop_px % SIZE_MULTIPLE_PX or not 0 < crop_px <= side_px:
            raise ValueError(
                f"crop_px must be a multiple of {SIZE_MULTIPLE_PX} from 32 to the least side of a "
                f"tile, {side_px}; got {crop_px}"
            )
        self.tiles = tiles
        self.crop_cells = crop_px // CELL_PX
        self.batch_size = batch_size
        self.seed = seed
        self.weights = [cell_weights(tile.cells) for tile in tiles]
        self.with_defects = [n for n, tile in enumerate(tiles) if tile.cells.any()]

    def batch(self, step: int) -> Batch:
        """Draw the batch of a step."""
        rng = np.random.default_rng((self.seed, step))
        crops = [self._crop(rng) for _ in range(self.batch_size)]
        image, cells, weight = (
            torch.from_numpy(np.stack(parts))[:, None] for parts in zip(*crops, strict=True)
        )
        return Batch(image=image, target=(cells > 0).float(), weight=weight)

    def _crop(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
        wants_defect = self.with_defects and rng.random() < DEFECT_SHARE
        number = int(
            rng.choice(self.with_defects) if wants_defect else len(self.tiles) * rng.random()
        )
        tile, side = self.tiles[number], self.crop_cells
        span = np.array(tile.cells.shape) - side
        top, left = (rng.integers(0, span + 1)).tolist()
        if wants_defect:
            rows, columns = np.nonzero(tile.cells == rng.choice(np.unique(tile.cells)[1:]))
            target = rng.integers(len(rows))
            # The defect lies anywhere in the crop, not in its middle, or the network learns that.
            corner = np.array((rows[target], columns[target])) - rng.integers(0, side, 2)
            top, left = np.clip(corner, 0, span).tolist()
        part = np.s_[top : top + side, left : left + side]
        fine = np.s_[
            top * CELL_PX : (top + side) * CELL_PX, left * CELL_PX : (left + side) * CELL_PX
        ]
        gain = 1 + rng.uniform(-GAIN_JITTER, GAIN_JITTER)
        offset = rng.uniform(-OFFSET_JITTER_GREY, OFFSET_JITTER_GREY)
        grey = np.clip(gain * tile.hr[fine].astype(np.float32) + np.float32(offset), 0, 255) / 255
        turns, is_mirrored = int(rng.integers(4)), rng.random() < 0.5
        return (
            _turn(grey.astype(np.float32), turns, is_mirrored),
            _turn(tile.cells[part], turns, is_mirrored),
            _turn(self.weights[number][part], turns, is_mirrored),
        )


def cell_weights(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Weigh the cells of a tile by the size of their defect; background is 1, its rim 0.

    Args:
        cells: (rows, columns), 0 background, k the k-th defect.

    Returns:
        (rows, columns) float32.
    """
    sizes = np.bincount(cells.ravel())
    by_label = np.clip(USUAL_CELLS / np.maximum(sizes, 1), *WEIGHT_LIMITS)
    by_label[0] = 1.0
    weight = by_label[cells]
    is_defect = cells > 0
    is_rim = ndimage.maximum_filter(is_defect, size=3) > is_defect
    weight[is_rim] = 0.0
    return weight.astype(np.float32)


def _turn(array: NDArray[_T], turns: int, is_mirrored: bool) -> NDArray[_T]:
    turned = np.rot90(array, turns)
    return np.ascontiguousarray(turned[:, ::-1] if is_mirrored else turned)
