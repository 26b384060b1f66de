"""Grain of flat places, compared at equal grey levels and so independently of the layout.

Power spectra of whole images depend on their layout more than on their grain: a scan with fewer
edges has less power at every frequency. A loss on whole spectra makes the generator replace that
power by grain. Flat places hold only grain, whose strength in each band depends on the grey level
and the tool. This loss compares that strength, band by band and grey by grey.

Source: our own; bands and flat places are those of `training.losses.texture`.
"""

import torch

from training.losses.filters import gaussian_taps, separable_blur
from training.losses.shapes import check_grey_batch
from training.losses.texture import BAND_SIGMAS_PX, flatness

HALF_GRADIENT = 0.012
"""Gradient at which a pixel's flatness is 1/2, in [0, 1] grey per px; 3 grey levels per px."""

GREY_SIGMA_PX = 4.0
"""Deviation of the blur that gives the grey level of a pixel's surroundings, in pixels."""

NUM_GREYS = 24
"""Number of grey bins, equally wide in the square root of grey: SEM images are mostly dark."""

LEAST_PIXELS = 200.0
"""Least weighted number of pixels in a bin, in both sets; fewer give no reliable variance."""

TINY_VARIANCE = 1e-8
"""Floor of a variance in squared [0, 1] grey; its root is 1/40 of a grey level."""


def flat_grain_difference(
    sr: torch.Tensor, reference: torch.Tensor, *, structure: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean absolute log ratio of two sets' grain deviations, over bands and grey bins.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1].
        reference: (M, 1, H', W') float32 in [0, 1], HR crops of the same tool; other scenes, number
            and size.
        structure: `sr` without its grain, if known; it gives the flatness and the grey level. It
            gets no gradient.

    Returns:
        Scalar in nepers of amplitude; 1 neper is 8.69 dB. The weight of a grey bin is the smaller
        of its shares in the two sets. 0 if no bin has enough pixels in both.
    """
    check_grey_batch(reference, "reference images")
    counts, powers = grain_power(sr, sr if structure is None else structure)
    wanted_counts, wanted = grain_power(reference.detach(), reference.detach())
    shares = common_shares(counts, wanted_counts, least_pixels=LEAST_PIXELS)
    ratio = 0.5 * (_variance(powers, counts) / _variance(wanted, wanted_counts)).log()
    total: torch.Tensor = (shares * ratio.abs()).sum()
    return total / (len(BAND_SIGMAS_PX) * shares.sum().clamp(min=1e-6))


def grain_power(images: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum each band's squared values over the flat pixels of each grey bin.

    Args:
        images: (N, 1, H, W) float32 in [0, 1].
        places: Images that give flatness and grey level, the same shape. They get no gradient.

    Returns:
        Number of pixels of each grey bin, weighted by `flatness`, (NUM_GREYS,) float32; and the
        weighted sums of squared [0, 1] grey, (bands, NUM_GREYS).
    """
    check_grey_batch(images, "images")
    with torch.autocast(images.device.type, enabled=False):
        with torch.no_grad():
            known = places.detach().float()
            weight = flatness(known, half_gradient=HALF_GRADIENT).flatten()
            grey = separable_blur(known, gaussian_taps(GREY_SIGMA_PX).to(known.device)).flatten()
            bins = (grey.clamp(0, 1).sqrt() * NUM_GREYS).long().clamp(max=NUM_GREYS - 1)
            counts = weight.new_zeros(NUM_GREYS).index_add(0, bins, weight)
        powers = []
        finer = exact = images.float()
        for sigma_px in BAND_SIGMAS_PX:
            coarser = separable_blur(exact, gaussian_taps(sigma_px).to(exact.device))
            power = ((finer - coarser) ** 2).flatten() * weight
            powers.append(power.new_zeros(NUM_GREYS).index_add(0, bins, power))
            finer = coarser
        return counts, torch.stack(powers)


def common_shares(
    counts: torch.Tensor, others: torch.Tensor, *, least_pixels: float
) -> torch.Tensor:
    """Return each grey bin's weight: the smaller of its shares in two sets.

    The weight is 0 where either set has too few pixels.

    Args:
        counts: (..., NUM_GREYS) from `grain_power`.
        others: (NUM_GREYS,) of the other set.
        least_pixels: Least number of pixels that a bin needs in both sets.
    """
    enough = (counts >= least_pixels) & (others >= least_pixels)
    total = counts.sum(-1, keepdim=True).clamp(min=1e-6)
    shares = torch.minimum(counts / total, others / others.sum().clamp(min=1e-6))
    return torch.where(enough, shares, torch.zeros_like(shares))


def _variance(powers: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    return (powers / counts.clamp(min=1e-6)).clamp(min=TINY_VARIANCE)
