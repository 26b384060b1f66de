"""Samplers of pseudo-pairs; each batch is a function of the seed and the step alone.

A resumed run therefore sees the same batches as an uninterrupted one. A sampler works in two
stages: `make` draws small arrays, possibly in a worker process (`training.data.prefetch`); `finish`
turns them into the batch in the training process.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.config.added_structure import AddedStructureConfig
from training.config.degradation import MARGIN_PX, DegradationConfig, crop_side_px
from training.data.augmentation.added_structure import StructureAdder
from training.data.crops import (
    CPU,
    IS_FOREIGN,
    IS_PLANTED,
    CropSource,
    ImageCrops,
    check_sizes,
    flags_of,
    unit_range,
)
from training.data.degradation.synthetic_lr import degrade, draw_degradation
from training.data.images import SourceImage


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Aligned pseudo-pairs.

    Attributes:
        lr: (N, 1, c, c) float32 in [0, 1].
        hr: (N, 1, s*c, s*c) float32 in [0, 1].
        mask: (N, 1, s*c, s*c) float32, 1 where a defect was planted.
        foreign: The same shape, 1 where a foreign patch was pasted.
    """

    lr: torch.Tensor
    hr: torch.Tensor
    mask: torch.Tensor
    foreign: torch.Tensor

    def to(self, device: torch.device) -> "PairBatch":
        """Return the batch on a device."""
        return PairBatch(
            lr=self.lr.to(device),
            hr=self.hr.to(device),
            mask=self.mask.to(device),
            foreign=self.foreign.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class MadePairs:
    """Result of `CropSampler.make`: crops as uint8, a quarter of the size of float32 crops.

    Attributes:
        hr: (N, S, S) uint8 grey levels, with the margin where they are not degraded yet.
        flags: (N, S, S) uint8: `IS_PLANTED`, `IS_FOREIGN`.
        lr: (N, c, c) uint8 grey levels; None where `finish` degrades.
        seed: Seed of the degradation.
    """

    hr: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    lr: NDArray[np.uint8] | None
    seed: int


class CropSampler:
    """Sampler of HR crops, optionally with added structure, that are degraded to pseudo-pairs.

    Args:
        images: HR images, each larger than a crop with its margin.
        degradation: Ranges to draw from.
        scale: s.
        crop_px: c, LR pixels.
        batch_size: N.
        seed: Seed of everything drawn.
        crop_candidates: Crops drawn for each one used, all from one image: the one of most
            contrast. Most of a wafer image is flat, and edges are what there is to learn; but
            images of little contrast, such as granular metal, come as often as any.
        added: Defects and foreign patches that are added to the crops; None adds nothing.
        source: Source of crops in place of the images, with their structure in them.
        degrade_on: Device on which `finish` degrades; None degrades in `make`, on the CPU. On the
            CPU both give the same bits; a GPU has random numbers of its own.
    """

    def __init__(
        self,
        images: Sequence[SourceImage],
        *,
        degradation: DegradationConfig,
        scale: int,
        crop_px: int,
        batch_size: int,
        seed: int,
        crop_candidates: int = 1,
        added: AddedStructureConfig | None = None,
        source: CropSource | None = None,
        degrade_on: torch.device | None = None,
    ) -> None:
        self.side_px = crop_side_px(crop_px, scale)
        check_sizes(images, self.side_px)
        self.degradation = degradation
        self.scale = scale
        self.batch_size = batch_size
        self.crop_candidates = crop_candidates
        self.seed = seed
        self.degrade_on = degrade_on
        if source is None:
            pixels = [image.pixels for image in images]
            adder = (
                StructureAdder(pixels, added=added, degradation=degradation, scale=scale)
                if added
                else None
            )
            source = ImageCrops(images, adder=adder)
        self.source = source

    def batch(self, step: int, *, count: int | None = None) -> PairBatch:
        """Return the pairs of a step: `batch_size` of them, or `count`.

        Each crop is drawn uniformly from an image drawn uniformly, and turned and flipped at random
        before it is degraded: the pattern may lie any way, the scan may not.
        """
        return self.finish(self.make(step, count=count))

    def make(self, step: int, *, count: int | None = None) -> MadePairs:
        """Draw the crops of a step, and degrade them unless that is left to `finish`."""
        count = self.batch_size if count is None else count
        rng = np.random.default_rng((self.seed, step))
        crops = [
            self.source.crop(rng, side_px=self.side_px, candidates=self.crop_candidates)
            for _ in range(count)
        ]
        hr = np.stack([crop.pixels for crop in crops])
        flags = np.stack([flags_of(crop) for crop in crops])
        seed = int(rng.integers(2**62))
        if self.degrade_on is not None:
            return MadePairs(hr=hr, flags=flags, lr=None, seed=seed)
        lr = self._degraded(torch.from_numpy(hr)[:, None].float() / 255.0, seed)
        inner = (slice(None), *[slice(MARGIN_PX * self.scale, -MARGIN_PX * self.scale)] * 2)
        return MadePairs(
            # Copies: views would bring their margins along to another process.
            hr=np.ascontiguousarray(hr[inner]),
            flags=np.ascontiguousarray(flags[inner]),
            lr=(lr[:, 0] * 255.0).round().byte().numpy(),
            seed=seed,
        )

    def finish(self, made: MadePairs) -> PairBatch:
        """Turn crops into a batch, on the device that degrades them, or on the CPU."""
        device = self.degrade_on or CPU
        hr = unit_range(made.hr, device)
        flags = torch.from_numpy(made.flags)[:, None].to(device)
        if made.lr is not None:
            lr = unit_range(made.lr, device)
        else:
            lr = self._degraded(hr, made.seed)
            inner = (..., *[slice(MARGIN_PX * self.scale, -MARGIN_PX * self.scale)] * 2)
            hr, flags = hr[inner].contiguous(), flags[inner]
        return PairBatch(
            lr=lr,
            hr=hr,
            mask=((flags & IS_PLANTED) > 0).float(),
            foreign=((flags & IS_FOREIGN) > 0).float(),
        )

    def _degraded(self, hr: torch.Tensor, seed: int) -> torch.Tensor:
        """Degrade (N, 1, S, S) with its margin to (N, 1, c, c) without; float32 in autocast too.

        Noise is drawn on the CPU for every device: it has the size of the LR crops, and the same
        seed then gives the same noise everywhere.
        """
        generator = torch.Generator().manual_seed(seed)
        drawn = draw_degradation(self.degradation, count=len(hr), generator=generator)
        # Worker processes run outside of the trainer's autocast, and must give the same pairs.
        with torch.autocast(hr.device.type, enabled=False):
            lr = degrade(hr, drawn, scale=self.scale, generator=generator)
        return lr[..., MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX].contiguous()


class ToolSampler:
    """Sampler of pseudo-pairs of several tools, each tool with its own degradation ranges.

    The number of a tool's pairs in a batch is drawn by the tools' shares.

    Args:
        samplers: Samplers, one for each tool, all of one batch size and crop.
        shares: Shares of the pairs, one for each; their sum is 1.
        seed: Seed of the draw.
    """

    def __init__(
        self, samplers: Sequence[CropSampler], shares: Sequence[float], *, seed: int
    ) -> None:
        self.samplers = list(samplers)
        self.shares = list(shares)
        self.batch_size = self.samplers[0].batch_size
        self.seed = seed

    def batch(self, step: int) -> PairBatch:
        """Return the pairs of a step."""
        return self.finish(self.make(step))

    def make(self, step: int) -> list[MadePairs | None]:
        """Draw each tool's part of a step; None for a tool that has none in it."""
        if len(self.samplers) == 1:
            return [self.samplers[0].make(step)]
        rng = np.random.default_rng((self.seed, step, 2))
        counts = rng.multinomial(self.batch_size, self.shares)
        return [
            sampler.make(step, count=int(count)) if count else None
            for sampler, count in zip(self.samplers, counts, strict=True)
        ]

    def finish(self, made: Sequence[MadePairs | None]) -> PairBatch:
        """Turn each tool's crops into pairs, and join them."""
        parts = [
            sampler.finish(part)
            for sampler, part in zip(self.samplers, made, strict=True)
            if part is not None
        ]
        if len(parts) == 1:
            return parts[0]
        return PairBatch(
            lr=torch.cat([part.lr for part in parts]),
            hr=torch.cat([part.hr for part in parts]),
            mask=torch.cat([part.mask for part in parts]),
            foreign=torch.cat([part.foreign for part in parts]),
        )
