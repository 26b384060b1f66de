"""Samplers of unpaired crops without added structure; each step uses one tool's images."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.crops import CPU, check_sizes, draw_crop, unit_range
from training.data.images import SourceImage

Flips = Literal["vertical", "horizontal", "none"]


class PlainSampler:
    """Sampler of random crops of LR or HR images, flipped at random and otherwise unchanged.

    Args:
        images: Images, each at least as large as a crop.
        crop_px: c, in the images' own pixels.
        batch_size: N.
        seed: Seed of everything drawn.
        flips: Direction of random flips. "vertical" (up and down) keeps the scan direction;
            "horizontal" (left and right) is common in published training; "none" never flips.
    """

    def __init__(
        self,
        images: Sequence[SourceImage],
        *,
        crop_px: int,
        batch_size: int,
        seed: int,
        flips: Flips = "vertical",
    ) -> None:
        check_sizes(images, crop_px)
        self.flips: Flips = flips
        self.images = list(images)
        self.crop_px = crop_px
        self.batch_size = batch_size
        self.seed = seed

    def batch(self, step: int) -> torch.Tensor:
        """Return (N, 1, c, c) float32 in [0, 1]."""
        return self.finish(self.make(step))

    def make(self, step: int) -> NDArray[np.uint8]:
        """Draw the crops of a step, (N, c, c) grey levels."""
        rng = np.random.default_rng((self.seed, step, 1))
        crops = [
            draw_crop(self.images[int(rng.integers(len(self.images)))].pixels, self.crop_px, rng)
            for _ in range(self.batch_size)
        ]
        flip = {
            "vertical": (slice(None, None, -1),),
            "horizontal": (..., slice(None, None, -1)),
            "none": (...,),
        }[self.flips]
        return np.stack([crop[flip] if rng.integers(2) else crop for crop in crops])

    def finish(self, made: NDArray[np.uint8]) -> torch.Tensor:
        """Turn crops into the batch."""
        return unit_range(made, CPU)


class OneToolSampler:
    """Sampler that draws a tool by the shares, then all crops of the step from that tool.

    Two samplers with equal seed and shares draw the same tool at each step, so that LR and HR
    crops of one tool can be compared.

    Args:
        samplers: Samplers, one for each tool, all of one batch size and crop.
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
