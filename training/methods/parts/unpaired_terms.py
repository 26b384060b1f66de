"""Losses without pairs: they compare with the LR crop itself, or with HR crops of other places."""

import torch

from training.config.terms import ConsistencyConfig, StatisticsConfig
from training.losses.consistency import downscale, lr_consistency
from training.losses.filters import gaussian_taps, separable_blur
from training.losses.flat_grain import flat_grain_difference
from training.losses.statistics import histogram_distance, log_psd_difference, sliced_wasserstein


def consistency_terms(
    picture: torch.Tensor, lr: torch.Tensor, config: ConsistencyConfig, *, scale: int
) -> dict[str, torch.Tensor]:
    """Return two weighted LR-consistency terms: over all places, and over the worst places.

    Args:
        picture: (N, 1, s*H, s*W) generated.
        lr: (N, 1, H, W) that it was generated from.
        config: Weights.
        scale: s.
    """
    if not (config.weight or config.worst_weight):
        return {}
    coarse = downscale(picture, scale=scale)
    if config.low_pass_px:
        # An output that had to correlate with the noise of its input would copy it.
        taps = gaussian_taps(config.low_pass_px).to(lr.device)
        coarse, lr = separable_blur(coarse, taps), separable_blur(lr, taps)
    loss = lr_consistency(coarse, lr, worst_share=config.worst_share, eps=config.eps)
    return {
        "consistency": config.weight * loss.mean,
        "consistency_worst": config.worst_weight * loss.worst,
    }


def statistics_terms(
    fake: torch.Tensor,
    real: torch.Tensor,
    config: StatisticsConfig,
    *,
    structure: torch.Tensor | None,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """Return the weighted distances between the distributions of generated and real crops.

    Args:
        fake: (N, 1, H, W) generated.
        real: (M, 1, H', W'), HR crops of other places.
        config: Weights.
        structure: The generated without their grain, or None.
        generator: Source of the draws, on the CPU.
    """
    terms = {}
    if config.spectral_weight:
        distance = log_psd_difference(fake, real, generator=generator)
        terms["spectrum"] = config.spectral_weight * distance
    if config.sliced_weight:
        distance = sliced_wasserstein(fake, real, generator=generator)
        terms["sliced"] = config.sliced_weight * distance
    if config.histogram_weight:
        distance = histogram_distance(fake, real, generator=generator)
        terms["histogram"] = config.histogram_weight * distance
    if config.flat_grain_weight:
        # Of the structure it would make flats: anything faint would be erased.
        grainy = fake if structure is None else fake - structure + structure.detach()
        distance = flat_grain_difference(grainy, real, structure=structure)
        terms["flat_grain"] = config.flat_grain_weight * distance
    return terms
