"""Adversarial losses on logits, and the zero-centred gradient penalty.

Every loss takes discriminator logits of any one shape, high for real, and returns a scalar.
"""

import torch
from torch.nn import functional

from training.losses.shapes import check_same_shape


def lsgan_d(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Half the squared distance of real logits to 1 and of fake ones to 0.

    Source: Mao et al. 2017, eq. 9, with the half over both terms that CycleGAN's and CUT's code
    has.
    """
    return ((real_logits - 1) ** 2).mean() / 2 + (fake_logits**2).mean() / 2


def lsgan_g(fake_logits: torch.Tensor) -> torch.Tensor:
    """Squared distance of fake logits to 1. Source: Mao et al. 2017, eq. 9, without its half."""
    return ((fake_logits - 1) ** 2).mean()


def relativistic_d(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of "real beats its fake partner"; ln 2 where they are equal.

    The k-th real image is paired with the k-th fake one, place by place in their logit maps.

    Source: relativistic pairing of Jolicoeur-Martineau 2019, eq. 3, as in Huang et al. 2024
    (R3GAN), eq. 2; to be used with `zero_centred_penalty` on both real and fake images.
    """
    check_same_shape(real_logits, fake_logits)
    return functional.softplus(fake_logits - real_logits).mean()


def relativistic_g(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of "the fake beats its real partner": `relativistic_d` with the roles swapped.

    Source: see `relativistic_d`.
    """
    return relativistic_d(fake_logits, real_logits)


def zero_centred_penalty(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Squared norm of the gradient of an image's mean logit with respect to its pixels.

    On real images it is R1, on generated ones R2; both papers weight it by gamma / 2, which is the
    caller's to do. It is of the mean logit, so that gamma does not depend on how many patches a
    patch discriminator judges.

    Args:
        logits: (N, ...) computed from `images` by a discriminator that treats them one by one.
        images: (N, C, H, W) with `requires_grad`, leaf or not.

    Returns:
        Scalar, the mean over the images, through which the discriminator's parameters get a
        gradient.

    Raises:
        ValueError: `images` does not require a gradient.

    Source: Mescheder et al. 2018, eq. 9 and 10.
    """
    if not images.requires_grad:
        raise ValueError("a gradient penalty needs images with requires_grad=True")
    # Summed over the batch: each image's gradient is then that of its own mean logit.
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total = exact.reshape(len(logits), -1).mean(1).sum()
    (gradient,) = torch.autograd.grad(total, images, create_graph=True)
    return (gradient.to(exact.dtype) ** 2).flatten(1).sum(1).mean()
