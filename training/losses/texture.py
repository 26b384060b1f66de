"""Local energy: a loss on the strength of the texture around each place.

It needs aligned pairs. The pixels of grain cannot be predicted, so a pixel loss removes grain; the
local strength of grain can be predicted.

Near edges the strength says little about grain. Where the generator blurs an uncertain edge, the
edge's own energy is missing, and grain along every line would replace it. The weights from
`flatness` exclude edges.
"""

import torch
from torch.nn import functional

from training.losses.filters import gaussian_taps, separable_blur
from training.losses.shapes import check_grey_batch, check_same_shape

BAND_SIGMAS_PX = (1.0, 2.0, 4.0)
"""Deviations of the blurs between the bands. The first band is the image minus its first blur; each
further band is the difference of two successive blurs."""


FLATNESS_SIGMA_PX = 2.0
"""Deviation of the blur before the gradient; it preserves edges and removes most of the grain."""

FLATNESS_REACH_PX = 8
"""Greatest distance along rows and columns at which an edge reduces flatness: twice the deviation
of the window of `local_energy`."""


def local_energy(
    sr: torch.Tensor,
    target: torch.Tensor,
    *,
    window_sigma_px: float = 4.0,
    eps: float = 1e-3,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean absolute difference of two images' local standard deviations in three bands.

    In each band the deviation is sqrt(G * b^2 + eps^2) with a Gaussian window G.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1].
        target: The same shape, aligned.
        window_sigma_px: Deviation of the window in pixels.
        eps: Floor of the deviation, of [0, 1] grey; keeps the root's gradient finite where there is
            no texture.
        weight: Factor of each pixel, the same shape, such as `flatness`; None means 1. The sum is
            divided by the number of pixels, not by the sum of weights, so a flat place has the same
            influence in a crop full of edges as in a flat crop.

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
        difference = (of_sr - of_target).abs()
        total = total + (difference if weight is None else weight * difference).mean()
    return total / len(BAND_SIGMAS_PX)


@torch.no_grad()
def flatness(images: torch.Tensor, *, half_gradient: float) -> torch.Tensor:
    """Return each pixel's weight by the flatness around it: 1 / (1 + (g / half_gradient)^4).

    g is the largest gradient magnitude of the image, blurred by 2 px, within 8 px along rows and
    columns.

    Args:
        images: (N, 1, H, W) float32 in [0, 1].
        half_gradient: Gradient that weighs 1/2, in [0, 1] grey per pixel.

    Returns:
        (N, 1, H, W) in (0, 1], without gradient: 1 where all is flat, near 0 at edges.
    """
    if not half_gradient > 0:
        raise ValueError(f"flatness needs a gradient above 0, got {half_gradient}")
    check_grey_batch(images, "images to weigh")
    taps = gaussian_taps(FLATNESS_SIGMA_PX).to(images.device)
    smooth = separable_blur(images.float(), taps)
    padded = functional.pad(smooth, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    steepest = torch.hypot(across, down)
    # Rows, then columns: a square window at a tenth of its cost.
    side = 2 * FLATNESS_REACH_PX + 1
    for kernel, padding in (
        ((side, 1), (FLATNESS_REACH_PX, 0)),
        ((1, side), (0, FLATNESS_REACH_PX)),
    ):
        steepest = functional.max_pool2d(steepest, kernel, stride=1, padding=padding)
    return 1 / (1 + (steepest / half_gradient) ** 4)
