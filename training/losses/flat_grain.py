"""Grain of flat places at equal greys: a distribution loss that layout cannot mislead.

Spectra of whole images of other scenes differ in layout before they differ in grain: a scan with
fewer edges has less power at every frequency, and a loss of whole spectra has that made up for with
grain. Flat places hold nothing but grain, whose strength in each band depends on the grey level and
on the tool. Those two are what is compared here.

Source: our own; bands and flat places are those of `training.losses.texture`.
"""

import torch

from training.losses.filters import gaussian_taps, separable_blur
from training.losses.shapes import check_grey_batch
from training.losses.texture import BAND_SIGMAS_PX, flatness

HALF_GRADIENT = 0.012
"""Gradient at which a pixel counts half as flat, [0, 1] grey per px: 3 grey levels."""

GREY_SIGMA_PX = 4.0
"""Blur after which a pixel counts as the grey of its surroundings."""

NUM_GREYS = 24
"""Bins of grey, even in its square root: most of the area of SEM images is dark."""

LEAST_PIXELS = 200.0
"""Pixels, by weight, that a bin needs on both sides; fewer tell no variance."""

TINY_VARIANCE = 1e-8
"""Floor of a variance, of [0, 1] grey: 1/40 of a grey level."""


def flat_grain_difference(
    sr: torch.Tensor, reference: torch.Tensor, *, structure: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean absolute log ratio of the grain's deviations, over bands and over greys that both have.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1].
        reference: (M, 1, H', W') float32 in [0, 1], HR crops of the same tool; other scenes, number
            and size.
        structure: `sr` without its grain, if known: where it is flat and how grey it is. It gets no
            gradient.

    Returns:
        Scalar in nepers of amplitude: times 8.69 is the difference in dB. Bins of grey weigh by the
        smaller of both sides' shares of their flat pixels. Zero where no grey is in both.
    """
    check_grey_batch(reference, "reference images")
    counts, powers = grain_power(sr, sr if structure is None else structure)
    wanted_counts, wanted = grain_power(reference.detach(), reference.detach())
    shares = common_shares(counts, wanted_counts, least_pixels=LEAST_PIXELS)
    ratio = 0.5 * (_variance(powers, counts) / _variance(wanted, wanted_counts)).log()
    total: torch.Tensor = (shares * ratio.abs()).sum()
    return total / (len(BAND_SIGMAS_PX) * shares.sum().clamp(min=1e-6))


def grain_power(images: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the squares of each band over flat pixels of each grey.

    Args:
        images: (N, 1, H, W) float32 in [0, 1].
        places: The same shape: what says where it is flat and how grey it is. It gets no gradient.

    Returns:
        Number of pixels of each grey, weighed by `flatness`: (NUM_GREYS,) float32; and the sums of
        the squared [0, 1] grey of each band there: (bands, NUM_GREYS).
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
    """Weigh greys by the smaller of two sets' shares, 0 where either has too few pixels.

    Args:
        counts: (..., NUM_GREYS) from `grain_power`.
        others: (NUM_GREYS,) of the other set.
        least_pixels: Fewest pixels that tell a variance.
    """
    enough = (counts >= least_pixels) & (others >= least_pixels)
    total = counts.sum(-1, keepdim=True).clamp(min=1e-6)
    shares = torch.minimum(counts / total, others / others.sum().clamp(min=1e-6))
    return torch.where(enough, shares, torch.zeros_like(shares))


def _variance(powers: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    return (powers / counts.clamp(min=1e-6)).clamp(min=TINY_VARIANCE)
