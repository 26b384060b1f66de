"""Local energy: how strong the texture is around each place, whatever its very pixels are.

For aligned pairs only. Grain cannot be predicted pixel by pixel, and a pixel loss would remove it;
its local strength can.
"""

import torch

from training.losses.filters import gaussian_taps, separable_blur
from training.losses.shapes import check_same_shape

BAND_SIGMAS_PX = (1.0, 2.0, 4.0)
"""Bounds of the bands: the image less its blur by the first, then the blurs' differences."""


def local_energy(
    sr: torch.Tensor, target: torch.Tensor, *, window_sigma_px: float = 4.0, eps: float = 1e-3
) -> torch.Tensor:
    """Mean absolute difference of the local standard deviations in three bands; scalar.

    In each band the deviation is sqrt(G * b^2 + eps^2) with a Gaussian window G.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1].
        target: The same shape, aligned.
        window_sigma_px: Deviation of the window in pixels.
        eps: Of [0, 1] grey; keeps the root's gradient finite where there is no texture.

    Source: band energies as in the steerable-pyramid texture model of Portilla and Simoncelli 2000,
    here local and from Gaussian differences.
    """
    check_same_shape(sr, target)
    both = torch.cat([sr.float(), target.float()])
    window = gaussian_taps(window_sigma_px).to(both.device)
    total = both.new_zeros(())
    finer = both
    for sigma_px in BAND_SIGMAS_PX:
        coarser = separable_blur(both, gaussian_taps(sigma_px).to(both.device))
        band = finer - coarser
        finer = coarser
        deviation = (separable_blur(band**2, window).clamp(min=0) + eps**2).sqrt()
        of_sr, of_target = deviation.chunk(2)
        total = total + (of_sr - of_target).abs().mean()
    return total / len(BAND_SIGMAS_PX)
