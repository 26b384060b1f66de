"""Input masking: during training, some LR pixels are replaced by their neighbourhood's median.

The generator must infer masked places from their surroundings, so that it learns context instead of
the few planted shapes. The target is never masked, nor is the input in the last part of a run.

Source: masked image training of Chen et al. 2023 (CVPR) for denoising that generalises; medians in
place of zeros keep the input inside its range.
"""

import torch
from torch.nn import functional

from training.config.method import InputMaskConfig
from training.methods.method import ramp, step_generator

FOR_MASK = 4
"""Purpose of its draws; see `training.methods.method.step_seed`."""


def mask_input(
    lr: torch.Tensor, config: InputMaskConfig, *, step: int, steps: int, seed: int
) -> torch.Tensor:
    """Mask the LR crops of a step; the draws depend on the seed and the step alone.

    Args:
        lr: (N, 1, H, W) float32 in [0, 1].
        config: Share of masked pixels, and its course over the run.
        step: Number of the step, from 0.
        steps: Length of the run.
        seed: Seed of the recipe.

    Returns:
        The same shape; `lr` itself where nothing is masked.
    """
    if not config.share or step >= round((1 - config.whole_share) * steps):
        return lr
    rise = ramp(step, steps=steps, start_share=0.0, ramp_share=config.ramp_share)
    return mask_pixels(lr, config.share * rise, generator=step_generator(seed, step, FOR_MASK))


def mask_pixels(lr: torch.Tensor, share: float, *, generator: torch.Generator) -> torch.Tensor:
    """Set random pixels, half of them in blocks of 2x2, to the median of their 3x3 neighbourhood.

    Args:
        lr: (N, 1, H, W).
        share: Expected share of the pixels, in [0, 1); where blocks overlap it is a little less.
        generator: Source of the draws, on the CPU.
    """
    number, _, height, width = lr.shape
    draws = torch.rand(2, number, 1, height + 1, width + 1, generator=generator).to(lr.device)
    single = draws[0, ..., 1:, 1:] < share / 2
    corners = (draws[1] < share / 8).to(lr.dtype)
    block = functional.max_pool2d(corners, 2, stride=1) > 0
    padded = functional.pad(lr, (1, 1, 1, 1), mode="reflect")
    around = functional.unfold(padded, 3).view(number, 9, height, width)
    median = around.median(dim=1, keepdim=True).values
    return torch.where(single | block, median, lr)
