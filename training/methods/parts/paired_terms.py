"""Losses on pseudo-pairs: pixels of the structure, local strength of the grain."""

import torch

from training.config.terms import PairedConfig
from training.losses.filters import gaussian_taps, separable_blur
from training.losses.pixel import charbonnier
from training.losses.texture import flatness, local_energy

LOW_PASS_SIGMA_PX = 2.0
"""Gaussian blur before the pixel loss of a generator without separate structure; removes grain."""


def paired_terms(
    sr: torch.Tensor,
    structure: torch.Tensor | None,
    hr: torch.Tensor,
    mask: torch.Tensor,
    config: PairedConfig,
) -> dict[str, torch.Tensor]:
    """Return the weighted loss terms of aligned pairs.

    - `pixel`: Charbonnier loss, with a larger weight on planted defects. It compares the structure
      with the HR image; without a separate structure, it compares both images after a low-pass.
    - `smooth`: Charbonnier loss of the band-passed difference. Averaged over a few pixels, errors
      of a grey level rise above the target's noise: remaining mottle from the input's noise, and
      faint defects that were smoothed away. The band excludes errors of tone, which the input does
      not determine.
    - `energy`: difference in the local strength of the texture. A separate structure gets no
      gradient from it, so that stronger edges cannot replace missing grain. With
      `energy_half_gradient`, flat parts of the HR image weigh most, so that grain cannot replace
      missing edges.

    Args:
        sr: (N, 1, H, W) generated.
        structure: The same shape, or None.
        hr: The same shape, aligned.
        mask: The same shape, 1 on planted defects.
        config: Weights.
    """
    if structure is None:
        taps = gaussian_taps(LOW_PASS_SIGMA_PX).to(sr.device)
        picture, target = separable_blur(sr, taps), separable_blur(hr, taps)
    else:
        picture, target = structure, hr
    eps, weight = config.charbonnier_eps, 1 + config.defect_weight * mask
    terms = {"pixel": config.pixel_weight * charbonnier(picture, target, eps=eps, weight=weight)}
    if config.smooth_weight:
        fine, coarse = (
            separable_blur(
                picture - target, gaussian_taps(factor * config.smooth_sigma_px).to(sr.device)
            )
            for factor in (1, 4)
        )
        terms["smooth"] = config.smooth_weight * charbonnier(fine, coarse, eps=eps, weight=weight)
    if config.energy_weight:
        textured = sr if structure is None else sr - structure + structure.detach()
        half = config.energy_half_gradient
        flat = flatness(hr, half_gradient=half) if half else None
        terms["energy"] = config.energy_weight * local_energy(textured, hr, weight=flat)
    return terms
