"""Distribution losses between generated and real fine images of other scenes: texture, not place.

They compare what unaligned images have in common: the power at each spatial frequency, small
patches, grey levels. Nothing of them says where a structure lies, so they need a structure loss
with them. All are deterministic given the generator; the reference gets no gradient.
"""

import functools

import torch
from torch.nn import functional

from training.losses.shapes import check_grey_batch


def log_psd_difference(
    sr: torch.Tensor,
    reference: torch.Tensor,
    *,
    generator: torch.Generator,
    patch_px: int = 64,
    num_patches: int = 32,
) -> torch.Tensor:
    """Mean absolute difference of the logarithms of two radial power spectra.

    Patches are drawn at random from each batch, freed of their mean, windowed (Hann, both axes)
    and transformed; the power is averaged over patches and over rings of one cycle per patch, up to
    the Nyquist frequency.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1], sides at least `patch_px`.
        reference: (M, 1, H', W') float32 in [0, 1]; other scenes, number and size.
        generator: Source of the draws, on the CPU.
        patch_px: Side of a patch.
        num_patches: Patches of each batch.

    Returns:
        Scalar in nepers of power (natural logarithm): times 4.34 is the distance in dB.
    """
    _check(sr, reference, patch_px)
    with torch.autocast(sr.device.type, enabled=False):
        spectra = [
            _radial_log_power(_draw_patches(images, patch_px, num_patches, generator))
            for images in (sr, reference.detach())
        ]
        return (spectra[0] - spectra[1]).abs().mean()


def sliced_wasserstein(
    sr: torch.Tensor,
    reference: torch.Tensor,
    *,
    generator: torch.Generator,
    patch_px: int = 5,
    num_projections: int = 32,
    num_samples: int = 4096,
    num_scales: int = 3,
) -> torch.Tensor:
    """Mean Wasserstein-1 distance of small high-passed patches along random directions.

    At each scale (the images, halved by the mean of 2x2 once more each time) patches are drawn at
    random from both batches, freed of their mean and projected on random directions of length 1;
    the sorted projections of both are compared.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1].
        reference: (M, 1, H', W') float32 in [0, 1]; other scenes, number and size.
        generator: Source of the draws, on the CPU.
        patch_px: Side of a patch in pixels of its scale.
        num_projections: Directions at each scale.
        num_samples: Patches of each batch at each scale.
        num_scales: Scales; the coarsest still has to hold a patch.

    Returns:
        Scalar in grey of [0, 1]; the mean over scales.

    Source: Heitz et al. 2021, "A sliced Wasserstein loss for neural texture synthesis", eq. 3, on
    patches instead of network features, and with absolute differences instead of squares.
    """
    _check(sr, reference, patch_px * 2 ** (num_scales - 1))
    losses = []
    with torch.autocast(sr.device.type, enabled=False):
        batches = [_exact(sr), _exact(reference.detach())]
        for _ in range(num_scales):
            directions = torch.randn(
                patch_px**2, num_projections, generator=generator, dtype=torch.float32
            )
            # Directions without a mean do not see the patches' mean: that is the high-pass.
            directions = functional.normalize(directions - directions.mean(0), dim=0)
            directions = directions.to(batches[0])
            projected = [
                _draw_patches(images, patch_px, num_samples, generator).flatten(1) @ directions
                for images in batches
            ]
            losses.append(quantile_difference(*projected))
            batches = [functional.avg_pool2d(images, 2) for images in batches]
    return torch.stack(losses).mean()


def histogram_distance(
    sr: torch.Tensor,
    reference: torch.Tensor,
    *,
    generator: torch.Generator,
    num_samples: int = 16384,
) -> torch.Tensor:
    """Wasserstein-1 distance of the grey levels, from random pixels of each batch.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1].
        reference: (M, 1, H', W') float32 in [0, 1]; other scenes, number and size.
        generator: Source of the draws, on the CPU.
        num_samples: Pixels drawn of each batch; all of it, without a draw, where it has no more.

    Returns:
        Scalar in grey of [0, 1].
    """
    _check(sr, reference, 1)
    with torch.autocast(sr.device.type, enabled=False):
        samples = []
        for images in (_exact(sr), _exact(reference.detach())):
            values = images.flatten()
            if values.numel() > num_samples:
                places = torch.randint(values.numel(), (num_samples,), generator=generator)
                values = values[places.to(values.device)]
            samples.append(values[:, None])
        return quantile_difference(*samples)


def quantile_difference(values: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the sorted columns of two sample sets.

    For equal counts this is the Wasserstein-1 distance of each column's samples; for unequal ones
    the reference's sorted samples are interpolated at the ranks of the others.

    Args:
        values: (S, P) samples in rows.
        reference: (T, P).

    Returns:
        Scalar, the mean over columns.
    """
    ordered, wanted = values.sort(0).values, reference.sort(0).values
    count, reference_count = ordered.shape[0], wanted.shape[0]
    if count != reference_count:
        # Sample k of n stands for the quantile (k + 0.5) / n.
        ranks = (torch.arange(count, device=wanted.device, dtype=torch.float64) + 0.5) / count
        places = (ranks * reference_count - 0.5).clamp(0, reference_count - 1)
        lower = places.floor().long()
        upper = (lower + 1).clamp(max=reference_count - 1)
        share = (places - lower).to(wanted.dtype)[:, None]
        wanted = wanted[lower] * (1 - share) + wanted[upper] * share
    return (ordered - wanted).abs().mean()


def _draw_patches(
    images: torch.Tensor, patch_px: int, count: int, generator: torch.Generator
) -> torch.Tensor:
    """Cut random patches, with replacement; (count, patch_px, patch_px) float32."""
    number, _, height, width = images.shape
    rows, columns = height - patch_px + 1, width - patch_px + 1
    draws = torch.randint(number * rows * columns, (count,), generator=generator)
    image = draws // (rows * columns)
    top = draws // columns % rows
    corner = (image * height + top) * width + draws % columns
    inside = torch.arange(patch_px)
    offset = inside[:, None] * width + inside
    places = corner[:, None, None] + offset
    return _exact(images).flatten()[places.to(images.device)]


def _radial_log_power(patches: torch.Tensor) -> torch.Tensor:
    """Average windowed power over patches and rings 1 to P / 2; natural logarithms."""
    side = patches.shape[-1]
    taps = torch.hann_window(side, periodic=False, dtype=patches.dtype, device=patches.device)
    window = torch.outer(taps, taps)
    # Weighted by the window: what is left at zero frequency would leak into the first ring.
    mean = (patches * window).sum((1, 2), keepdim=True) / window.sum()
    spectrum = torch.fft.fft2((patches - mean) * window, norm="ortho")
    power = (spectrum.real**2 + spectrum.imag**2).mean(0).flatten()
    rings = _rings(side).to(power)
    # Ten orders below a grey level squared: only a constant image gets there.
    return torch.log(rings @ power + 1e-14)


@functools.lru_cache(maxsize=8)
def _rings(side: int) -> torch.Tensor:
    """Return the matrix that averages a flattened spectrum over rings; (side // 2, side^2)."""
    cycles = torch.fft.fftfreq(side, d=1 / side)
    radius = torch.hypot(cycles[:, None], cycles[None]).round().flatten()
    member = radius[None] == torch.arange(1, side // 2 + 1)[:, None]
    return member.float() / member.sum(1, keepdim=True)


def _exact(images: torch.Tensor) -> torch.Tensor:
    """Bring to float32; double stays."""
    return images.to(torch.promote_types(images.dtype, torch.float32))


def _check(sr: torch.Tensor, reference: torch.Tensor, least_px: int) -> None:
    for images, name in ((sr, "generated images"), (reference, "reference images")):
        check_grey_batch(images, name)
        if min(images.shape[-2:]) < least_px:
            raise ValueError(
                f"{name} of {images.shape[-2]}x{images.shape[-1]} px are smaller than {least_px} px"
            )
