"""Sampler of aligned crops of given pairs; each batch is a function of the seed and the step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.crops import CPU, check_sizes, turned, unit_range
from training.data.given_pairs import SourcePair
from training.data.turns import Turns, draw_turn_of, turned_shift


@dataclass(frozen=True, kw_only=True)
class AlignedBatch:
    """Aligned crops.

    Attributes:
        lr: (N, 1, c, c) float32 in [0, 1].
        hr: (N, 1, s*c, s*c) float32 in [0, 1].
        shift: (N, 2) float32: dy and dx of each pair in HR px, turned with its crop; see
            `SourcePair`.
    """

    lr: torch.Tensor
    hr: torch.Tensor
    shift: torch.Tensor

    def to(self, device: torch.device) -> "AlignedBatch":
        """Return the batch on a device."""
        return AlignedBatch(
            lr=self.lr.to(device), hr=self.hr.to(device), shift=self.shift.to(device)
        )


@dataclass(frozen=True, kw_only=True)
class MadeCrops:
    """Result of `AlignedSampler.make`: grey levels.

    Attributes:
        lr: (N, c, c) uint8.
        hr: (N, s*c, s*c) uint8.
        shift: (N, 2) float32.
    """

    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]
    shift: NDArray[np.float32]


class AlignedSampler:
    """Sampler of crops at the same place of both images of a pair.

    Args:
        pairs: Pairs, each at least as large as a crop.
        scale: s.
        crop_px: c, LR pixels.
        batch_size: N.
        seed: Seed of everything drawn.
        turns: Directions in which crops are turned at random. A scan has a direction (lag,
            charging, line noise), which all but "vertical" and "none" change.
    """

    def __init__(
        self,
        pairs: Sequence[SourcePair],
        *,
        scale: int,
        crop_px: int,
        batch_size: int,
        seed: int,
        turns: Turns = "vertical",
    ) -> None:
        check_sizes([pair.lr for pair in pairs], crop_px)
        self.pairs = list(pairs)
        self.scale = scale
        self.crop_px = crop_px
        self.batch_size = batch_size
        self.seed = seed
        self.turns: Turns = turns

    def batch(self, step: int) -> AlignedBatch:
        """Return the crops of a step, each of a pair and a place drawn uniformly."""
        return self.finish(self.make(step))

    def make(self, step: int) -> MadeCrops:
        """Draw the crops of a step."""
        rng = np.random.default_rng((self.seed, step, 4))
        crops = [self._crop(rng) for _ in range(self.batch_size)]
        return MadeCrops(
            lr=np.stack([lr for lr, _, _ in crops]),
            hr=np.stack([hr for _, hr, _ in crops]),
            shift=np.array([shift for _, _, shift in crops], dtype=np.float32),
        )

    def finish(self, made: MadeCrops) -> AlignedBatch:
        """Turn crops into the batch."""
        return AlignedBatch(
            lr=unit_range(made.lr, CPU),
            hr=unit_range(made.hr, CPU),
            shift=torch.from_numpy(made.shift),
        )

    def _crop(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[float, float]]:
        pair = self.pairs[int(rng.integers(len(self.pairs)))]
        height, width = pair.lr.pixels.shape
        y = int(rng.integers(height - self.crop_px + 1))
        x = int(rng.integers(width - self.crop_px + 1))
        lr, hr = (
            image.pixels[
                factor * y : factor * (y + self.crop_px), factor * x : factor * (x + self.crop_px)
            ]
            for image, factor in ((pair.lr, 1), (pair.hr, self.scale))
        )
        turn = draw_turn_of(self.turns, rng)
        return turned(lr, turn), turned(hr, turn), turned_shift((pair.dy, pair.dx), turn)
