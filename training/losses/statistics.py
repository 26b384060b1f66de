"""Distribution losses between generated images and HR images of other scenes.

They compare statistics that do not depend on alignment: power spectra, small patches, and grey
levels. The statistics do not locate structures, so a structure loss must accompany them. All draws
come from the given generator; the reference gets no gradient.
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
    """Return the mean absolute difference of the logarithms of two radial power spectra.

    Random patches of each batch lose their mean, are windowed (Hann, both axes) and transformed.
    The power is averaged over patches and over rings that are one cycle per patch wide, up to the
    Nyquist frequency.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1], sides at least `patch_px`.
        reference: (M, 1, H', W') float32 in [0, 1]; other scenes, number and size.
        generator: Source of the draws, on the CPU.
        patch_px: Side of a patch.
        num_patches: Patches of each batch.

    Returns:
        Scalar in natural logarithms of power; a value of 1 is 4.34 dB.
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
    """Return the mean Wasserstein-1 distance of small patches, projected on random directions.

    Random patches of both batches are projected on random directions of length 1 and mean 0, which
    ignore a patch's mean; the sorted projections are compared. Each further scale halves the images
    by the mean of 2x2 pixels.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1].
        reference: (M, 1, H', W') float32 in [0, 1]; other scenes, number and size.
        generator: Source of the draws, on the CPU.
        patch_px: Side of a patch in pixels of its scale.
        num_projections: Directions at each scale.
        num_samples: Patches of each batch at each scale.
        num_scales: Number of scales; images of the coarsest must be at least as large as a patch.

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
    """Return the Wasserstein-1 distance between the grey levels of two batches' random pixels.

    Args:
        sr: (N, 1, H, W) float32 in [0, 1].
        reference: (M, 1, H', W') float32 in [0, 1]; other scenes, number and size.
        generator: Source of the draws, on the CPU.
        num_samples: Number of random pixels; smaller batches are used completely, without a draw.

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
    """Return the mean absolute difference of the sorted columns of two sample sets.

    For equal counts this is the mean Wasserstein-1 distance of the columns. For unequal counts, the
    reference's sorted samples are first interpolated at the ranks of the other set.

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
    """Cut random patches, with replacement, as (count, patch_px, patch_px) float32."""
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
    """Return the log of the windowed patches' mean power in each ring from 1 to P / 2."""
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
    """Return the matrix (side // 2, side^2) that averages a flattened spectrum over rings."""
    cycles = torch.fft.fftfreq(side, d=1 / side)
    radius = torch.hypot(cycles[:, None], cycles[None]).round().flatten()
    member = radius[None] == torch.arange(1, side // 2 + 1)[:, None]
    return member.float() / member.sum(1, keepdim=True)


def _exact(images: torch.Tensor) -> torch.Tensor:
    """Convert images to float32; float64 images stay unchanged."""
    return images.to(torch.promote_types(images.dtype, torch.float32))


def _check(sr: torch.Tensor, reference: torch.Tensor, least_px: int) -> None:
    for images, name in ((sr, "generated images"), (reference, "reference images")):
        check_grey_batch(images, name)
        if min(images.shape[-2:]) < least_px:
            raise ValueError(
                f"{name} of {images.shape[-2]}x{images.shape[-1]} px are smaller than {least_px} px"
            )
