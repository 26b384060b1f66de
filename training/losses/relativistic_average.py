"""Relativistic average adversarial losses: a real image is to look more real than the mean fake.

The losses take logits of any shape, in which high values mean real, and return a scalar. Unlike
`training.losses.gan.relativistic_d`, which pairs images, each logit is compared with the mean of
the other kind.

Source: Jolicoeur-Martineau 2019, "The relativistic discriminator", eq. 11 and 12, with the half
over both terms that the code of MASA-SR (Lu et al. 2021) has.
"""

import torch
from torch.nn import functional


def relativistic_average_d(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Return the discriminator's loss: ln 2 where all logits are equal."""
    real = real_logits - fake_logits.mean()
    fake = fake_logits - real_logits.mean()
    return (functional.softplus(-real).mean() + functional.softplus(fake).mean()) / 2


def relativistic_average_g(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Return the generator's loss: `relativistic_average_d` with the roles swapped."""
    return relativistic_average_d(fake_logits, real_logits)
