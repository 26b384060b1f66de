"""Losses on pseudo-pairs, where the answer is known: structure by pixels, grain by its strength."""

import torch

from training.config.terms import PairedConfig
from training.losses.filters import gaussian_taps, separable_blur
from training.losses.pixel import charbonnier
from training.losses.texture import flatness, local_energy

LOW_PASS_SIGMA_PX = 2.0
"""Low-pass of the pixel loss on a generator without separate structure: grain must not count."""


def paired_terms(
    sr: torch.Tensor,
    structure: torch.Tensor | None,
    hr: torch.Tensor,
    mask: torch.Tensor,
    config: PairedConfig,
) -> dict[str, torch.Tensor]:
    """Weighted loss terms of aligned pairs.

    - `pixel`: Charbonnier loss, heavier on planted defects. Of the structure against the HR image,
      whose grain has mean zero and so only adds a constant; or of both images low-passed where the
      structure is not known apart.
    - `smooth`: the same of the difference in a band of some pixels. The target's own noise hides an
      error of a grey level from the pixel term, but not where both are averaged over a few pixels:
      mottle that is left of the input's noise, and faint defects that are levelled. Errors of tone,
      which no input tells, are left out by the band.
    - `energy`: local strength of the texture. Where the structure is known apart it gets no
      gradient: it must not grow edges to make up for missing grain. It looks where the HR image is
      flat (`energy_half_gradient`): grain must not make up for missing edges either.

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
