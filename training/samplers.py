"""Batches of crops; each is a function of the seed and the step alone.

So a run that is resumed at a step sees exactly what it would have seen without the stop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from training.augmentation.patches import PatchSource, natural_source, paste_patches
from training.augmentation.planting import plant_defects
from training.config import ConfigError
from training.degradation import degrade, draw_degradation
from training.degradation_config import DegradationConfig
from training.images import SourceImage
from training.method_config import AddedStructureConfig
from training.noise import estimate_noise
from training.visibility import CoarseScan, VisibilityRule

# LR pixels around a crop that the degradation sees and that are then cut away, so that the crop's
# border is degraded from real neighbours: the spot reaches 2 LR px, the lag below 8 but faintly.
MARGIN_PX = 4


Flips = Literal["vertical", "horizontal"]


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


class CropSampler:
    """Draws HR crops, adds structure that the images lack, and degrades them to pairs.

    Args:
        images: HR images, each larger than a crop with its margin.
        degradation: Ranges to draw from.
        scale: s.
        crop_px: c, LR pixels.
        batch_size: N.
        seed: Of everything drawn.
        crop_candidates: Crops drawn for each one used, all from one image: the one of most
            contrast. Most of a wafer image is flat, and edges are what there is to learn; but
            images of little contrast, such as granular metal, come as often as any.
        added: Defects and foreign patches that are added to the crops; None adds nothing.
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
    ) -> None:
        self.side_px = (crop_px + 2 * MARGIN_PX) * scale
        _check_sizes(images, self.side_px)
        self.images = list(images)
        self.degradation = degradation
        self.scale = scale
        self.batch_size = batch_size
        self.crop_candidates = crop_candidates
        self.seed = seed
        self.added = added
        self._rule = (
            _visibility_rule(added, CoarseScan(degradation=degradation, scale=scale))
            if added
            else None
        )
        pixels = [image.pixels for image in images]
        # Added structure gets the grain of the images, measured once over all of them.
        self._noise = estimate_noise(pixels) if added else None
        self._patch_source = _patch_source(pixels, added) if added else None

    def batch(self, step: int, *, count: int | None = None) -> PairBatch:
        """Return the pairs of a step: `batch_size` of them, or `count`.

        Each crop is drawn uniformly from an image drawn uniformly, and turned and flipped at random
        before it is degraded: the pattern may lie any way, the scan may not.
        """
        count = self.batch_size if count is None else count
        rng = np.random.default_rng((self.seed, step))
        crops = [self._crop(rng) for _ in range(count)]
        hr, mask, foreign = (
            torch.from_numpy(np.stack(parts))[:, None].float() for parts in zip(*crops, strict=True)
        )
        hr = hr / 255.0
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        drawn = draw_degradation(self.degradation, count=count, generator=generator)
        lr = degrade(hr, drawn, scale=self.scale, generator=generator)
        inner_lr = slice(MARGIN_PX, -MARGIN_PX)
        inner_hr = slice(MARGIN_PX * self.scale, -MARGIN_PX * self.scale)
        return PairBatch(
            lr=lr[:, :, inner_lr, inner_lr].contiguous(),
            hr=hr[:, :, inner_hr, inner_hr].contiguous(),
            mask=mask[:, :, inner_hr, inner_hr].contiguous(),
            foreign=foreign[:, :, inner_hr, inner_hr].contiguous(),
        )

    def _crop(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return a crop, where a defect was planted in it, and where a foreign patch lies."""
        image = self.images[int(rng.integers(len(self.images)))].pixels
        candidates = [_draw_crop(image, self.side_px, rng) for _ in range(self.crop_candidates)]
        crop = max(candidates, key=np.std) if len(candidates) > 1 else candidates[0]
        crop = np.rot90(crop, int(rng.integers(4)))
        crop = np.ascontiguousarray(crop[:, ::-1] if rng.integers(2) else crop)
        foreign = planted = np.zeros(crop.shape, dtype=np.bool_)
        added = self.added
        if added is None:
            return crop, planted, foreign
        if self._patch_source is not None and rng.random() < added.patch_share:
            crop, foreign = paste_patches(
                crop,
                rng,
                count=added.patches,
                source=self._patch_source,
                noise=self._noise,
                sides_px=added.patch_sides_px,
                is_rounded=added.rounded_patches,
                rule=self._rule,
            )
        least, most = added.planted
        count = int(rng.integers(least, most + 1)) if most else 0
        if count:
            crop, number = plant_defects(
                crop,
                rng,
                count=count,
                kinds=added.kinds,
                noise=self._noise,
                rule=self._rule,
            )
            planted = number > 0
        return crop, planted, foreign


class ToolSampler:
    """Pairs of several tools in one batch: each tool's crops are degraded by its own ranges.

    How many of a batch come from which tool is drawn by their shares.

    Args:
        samplers: One for each tool, all of one batch size and crop.
        shares: Of the pairs, one for each; their sum is 1.
        seed: Of the draw.
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
        if len(self.samplers) == 1:
            return self.samplers[0].batch(step)
        rng = np.random.default_rng((self.seed, step, 2))
        counts = rng.multinomial(self.batch_size, self.shares)
        parts = [
            sampler.batch(step, count=int(count))
            for sampler, count in zip(self.samplers, counts, strict=True)
            if count
        ]
        return PairBatch(
            lr=torch.cat([part.lr for part in parts]),
            hr=torch.cat([part.hr for part in parts]),
            mask=torch.cat([part.mask for part in parts]),
            foreign=torch.cat([part.foreign for part in parts]),
        )


class PlainSampler:
    """Draws crops of images as they are, LR or HR: nothing is chosen, added or degraded.

    Args:
        images: Each at least as large as a crop.
        crop_px: c, in the images' own pixels.
        batch_size: N.
        seed: Of everything drawn.
        flips: "vertical" flips up and down only: left and right are the scan's before and after.
            "horizontal" flips left and right only, as most published training does.
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
        _check_sizes(images, crop_px)
        self.flips: Flips = flips
        self.images = list(images)
        self.crop_px = crop_px
        self.batch_size = batch_size
        self.seed = seed

    def batch(self, step: int) -> torch.Tensor:
        """Return (N, 1, c, c) float32 in [0, 1]."""
        rng = np.random.default_rng((self.seed, step, 1))
        crops = [
            _draw_crop(self.images[int(rng.integers(len(self.images)))].pixels, self.crop_px, rng)
            for _ in range(self.batch_size)
        ]
        flip = (
            (slice(None, None, -1),) if self.flips == "vertical" else (..., slice(None, None, -1))
        )
        turned = [crop[flip] if rng.integers(2) else crop for crop in crops]
        return torch.from_numpy(np.stack(turned))[:, None].float() / 255.0


def _visibility_rule(added: AddedStructureConfig, scan: CoarseScan) -> VisibilityRule:
    return VisibilityRule(
        scan=scan,
        least=added.min_detectability,
        most=added.max_detectability,
        drawn_share=added.faint_share,
    )


def _patch_source(
    images: Sequence[NDArray[np.uint8]], added: AddedStructureConfig
) -> PatchSource | None:
    if not added.patch_share:
        return None
    source = natural_source()
    if not added.own_patch_share:
        return source
    return source.with_own(images, share=added.own_patch_share)


def _draw_crop(
    pixels: NDArray[np.uint8], side_px: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    y = int(rng.integers(pixels.shape[0] - side_px + 1))
    x = int(rng.integers(pixels.shape[1] - side_px + 1))
    return pixels[y : y + side_px, x : x + side_px]


def _check_sizes(images: Sequence[SourceImage], side_px: int) -> None:
    small = [image.name for image in images if min(image.pixels.shape) < side_px]
    if small:
        raise ConfigError(f"images smaller than a crop of {side_px} px: {small}")
