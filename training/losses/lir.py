"""Losses of LIR: adversaries of images and of codes, consistency, and eq. 3.1 of the thesis.

Flow: codes and translated images of both domains -> these losses -> `training.methods.lir`. All
return a scalar.

Source: Du, Chen and Yang 2020, "Learning Invariant Representation for Unsupervised Image
Restoration", with the constants of its code where the paper has none; Chakraborty 2022 (thesis),
section 3.4. Own code.
"""

import itertools
from collections.abc import Sequence

import torch
from torch.nn import functional

from training.losses.filters import separable_blur
from training.losses.gan import lsgan_d, lsgan_g
from training.losses.shapes import check_same_shape

BLURS = ((5, 0.25), (9, 0.5), (15, 1.0))
"""Side of each blur of the background consistency, px, and its weight."""

BLUR_SIGMA_PX = 25.0
"""Deviation of the blurs: so wide that within 15 px they are almost box filters."""


def scales_d(
    real_logits: Sequence[torch.Tensor], fake_logits: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return the least-squares loss of a multi-scale discriminator, summed over its scales.

    Args:
        real_logits: Logits of real images, one tensor of any shape for each scale.
        fake_logits: Logits of generated images, likewise.
    """
    # The published code has no half before the two terms.
    pairs = zip(real_logits, fake_logits, strict=True)
    return torch.stack([2.0 * lsgan_d(real.float(), fake.float()) for real, fake in pairs]).sum()


def scales_g(fake_logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the generator's least-squares loss against a multi-scale discriminator."""
    return torch.stack([lsgan_g(fake.float()) for fake in fake_logits]).sum()


def content_d(x_logits: torch.Tensor, y_logits: torch.Tensor) -> torch.Tensor:
    """Return the loss of the content discriminator: 0 for codes of X, 1 for codes of Y.

    Args:
        x_logits: (N,), of the content codes of X.
        y_logits: (M,), of the content codes of Y.

    Source: the published code; eq. 2.12 of the thesis gives the encoders' side only.
    """
    return 2.0 * lsgan_d(y_logits.float(), x_logits.float())


def content_g(x_logits: torch.Tensor, y_logits: torch.Tensor) -> torch.Tensor:
    """Return the loss of the content encoders: 0 where the discriminator answers 0.5 to all."""
    return ((x_logits.float() - 0.5) ** 2).mean() + ((y_logits.float() - 0.5) ** 2).mean()


def background_consistency(translated: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean differences of an image and its translation after three blurs.

    White noise of deviation s adds about 0.16 s, 0.09 s and 0.05 s before the weights.

    Args:
        translated: (N, 1, H, W), H and W at least 8.
        source: The same shape: the image that was translated.

    Source: eq. 2.13 of the thesis; kernels and weights of the published code.
    """
    check_same_shape(translated, source)
    difference = translated - source  # blurring is linear: one blur for both
    blurred = [
        weight * separable_blur(difference, box_like_taps(size)).abs().mean()
        for size, weight in BLURS
    ]
    return torch.stack(blurred).sum()


def box_like_taps(size: int) -> torch.Tensor:
    """Return the taps of a blur of the background consistency, (size,) float32 of sum 1."""
    positions = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    taps = torch.exp(-0.5 * (positions / BLUR_SIGMA_PX) ** 2)
    return (taps / taps.sum()).float()


def semantic_consistency(translated: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of deep features after instance normalisation.

    The normalisation takes tone and contrast of each feature out of the comparison.

    Args:
        translated: (N, C, h, w) features of the translation, at least 2 places.
        source: The same of the image that was translated.

    Source: eq. 2.14 of the thesis; the normalisation is in the published code.
    """
    check_same_shape(translated, source)
    # Float32: squares of 512 channels lose too much in half precision.
    one, other = (
        functional.instance_norm(translated.float()),
        functional.instance_norm(source.float()),
    )
    return functional.mse_loss(one, other)


def code_energy(codes: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of the codes' mean squares, which keeps the added unit noise relevant.

    Source: the Kullback-Leibler term of Liu et al. 2017 (UNIT) for codes of fixed deviation 1,
    without its constant.
    """
    return torch.stack([(code.float() ** 2).mean() for code in codes]).sum()


def multi_reference(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean absolute difference of outputs for one content and several references.

    It is 0 for outputs that depend on the content alone, and also for a constant output.

    Args:
        images: n outputs of one shape, n at least 2, decoded with the same draw of code noise:
            different noise alone would keep the loss above 0.

    Source: eq. 3.1 of the thesis, whose norm is not stated; here the mean absolute difference,
    averaged over the n (n - 1) / 2 pairs (i = j adds nothing).
    """
    if len(images) < 2:
        raise ValueError(f"eq. 3.1 compares at least 2 outputs, got {len(images)}")
    pairs = list(itertools.combinations(images, 2))
    return torch.stack([(one - other).abs().mean() for one, other in pairs]).mean()
