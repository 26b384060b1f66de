"""Adversarial losses on discriminator logits, and the zero-centred gradient penalty.

The losses take logits of any shape, in which high values mean real, and return a scalar.
"""

import torch
from torch.nn import functional

from training.losses.shapes import check_same_shape


def lsgan_d(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Return half the mean squared distance of real logits from 1 and of fake logits from 0.

    Source: Mao et al. 2017, eq. 9, with the half over both terms that CycleGAN's and CUT's code
    has.
    """
    return ((real_logits - 1) ** 2).mean() / 2 + (fake_logits**2).mean() / 2


def lsgan_g(fake_logits: torch.Tensor) -> torch.Tensor:
    """Return the mean squared distance of fake logits from 1.

    Source: Mao et al. 2017, eq. 9, without its half.
    """
    return ((fake_logits - 1) ** 2).mean()


def vanilla_d(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Return half the mean cross-entropy of real logits with 1, and half that of fake ones with 0.

    Logits of 0 give ln 2.

    Source: Goodfellow et al. 2014, eq. 1, negated, with the half over both terms of Isola et al.
    2017 (pix2pix), section 3.3.
    """
    real, fake = functional.softplus(-real_logits), functional.softplus(fake_logits)
    return real.mean() / 2 + fake.mean() / 2


def vanilla_g(fake_logits: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of fake logits with 1, the form that does not saturate.

    Source: Goodfellow et al. 2014, section 3.
    """
    return functional.softplus(-fake_logits).mean()


def relativistic_d(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of "the real logit is above its fake partner's".

    The k-th real image is paired with the k-th fake one, place by place in their logit maps.
    Equal logits give ln 2.

    Source: relativistic pairing of Jolicoeur-Martineau 2019, eq. 3, as in Huang et al. 2024
    (R3GAN), eq. 2; to be used with `zero_centred_penalty` on both real and fake images.
    """
    check_same_shape(real_logits, fake_logits)
    return functional.softplus(fake_logits - real_logits).mean()


def relativistic_g(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Return `relativistic_d` with the roles of real and fake logits swapped.

    Source: see `relativistic_d`.
    """
    return relativistic_d(fake_logits, real_logits)


def zero_centred_penalty(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return the squared norm of the gradient of an image's mean logit with respect to its pixels.

    On real images it is the penalty R1, on generated ones R2. The caller multiplies it by
    gamma / 2, as the papers do. The mean logit makes gamma independent of the number of patches
    that a patch discriminator judges.

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
