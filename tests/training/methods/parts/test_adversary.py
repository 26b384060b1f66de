"""The discriminator within a method: what it is shown."""

import torch

from training.config.recipe import OptimizationConfig
from training.config.terms import AdversarialConfig, DiscriminatorConfig
from training.methods.parts.adversary import Adversary


def adversary(images_per_step: int | None) -> Adversary:
    """Return one with a small network."""
    config = AdversarialConfig(
        images_per_step=images_per_step, discriminator=DiscriminatorConfig(width=2, num_layers=1)
    )
    options = OptimizationConfig(seed=0, steps=10, betas=(0.5, 0.9))
    return Adversary(config, options, torch.device("cpu"))


def shown(images_per_step: int | None, *, real: int, generated: int) -> tuple[list[float], ...]:
    """Return the greys of the crops that it is shown, of batches whose greys count up."""
    reals, fakes = (
        torch.arange(float(count)).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
        for count in (real, generated)
    )
    judged = adversary(images_per_step).judged(reals, fakes, None)
    return tuple(crops[:, 0, 0, 0].tolist() for crops in judged)


def test_real_crops_come_from_all_of_the_batch() -> None:
    """A batch lists one tool's crops after the other's: the first few would be of one tool."""
    assert ([0, 4], [8, 9]) == shown(2, real=8, generated=10)
    assert ([0, 2, 5], [7, 8, 9]) == shown(3, real=8, generated=10)


def test_it_sees_as_many_real_as_generated_crops() -> None:
    """All that there are of both, unless the recipe says fewer."""
    assert ([0, 1, 2], [3, 4, 5]) == shown(None, real=3, generated=6)
    assert ([0, 1, 3], [0, 1, 2]) == shown(9, real=5, generated=3)
