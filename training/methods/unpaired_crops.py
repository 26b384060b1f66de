"""Crops of images as they are, of one tool a step."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.samplers import PlainSampler


class OneToolSampler:
    """Draws a step's crops from one tool, and the tool by the shares.

    Two of these with equal seed and shares draw the same tool at each step: LR and HR crops of
    one look can be compared, whatever numbers of images the tools have.

    Args:
        samplers: One for each tool, all of one batch size and crop.
        shares: Weight of each tool.
        seed: Seed of the tool's draw.
    """

    def __init__(
        self, samplers: Sequence[PlainSampler], shares: Sequence[float], *, seed: int
    ) -> None:
        self.samplers = list(samplers)
        self.shares = np.asarray(shares, dtype=np.float64) / sum(shares)
        self.batch_size = self.samplers[0].batch_size
        self.seed = seed

    def tool(self, step: int) -> int:
        """Return the number of a step's tool."""
        rng = np.random.default_rng((self.seed, step, 3))
        return int(rng.choice(len(self.samplers), p=self.shares))

    def batch(self, step: int) -> torch.Tensor:
        """Return (N, 1, c, c) float32 in [0, 1]; see `PlainSampler.batch`."""
        return self.finish(self.make(step))

    def make(self, step: int) -> NDArray[np.uint8]:
        """Draw the crops of a step, (N, c, c) grey levels."""
        return self.samplers[self.tool(step)].make(step)

    def finish(self, made: NDArray[np.uint8]) -> torch.Tensor:
        """Turn crops into the batch."""
        return self.samplers[0].finish(made)
