"""Adversarial training within a method: the discriminator's losses and the generator's term."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from training.config.recipe import OptimizationConfig
from training.config.terms import AdversarialConfig
from training.losses.gan import (
    lsgan_d,
    lsgan_g,
    relativistic_d,
    relativistic_g,
    zero_centred_penalty,
)
from training.losses.gradient_balance import GradientBalance
from training.methods.method import Phase, adam_phase, ramp, step_generator
from training.methods.parts.discriminators import PatchDiscriminator
from training.methods.parts.frozen import frozen
from training.methods.parts.image_pool import ImagePool

FOR_POOL = 3
"""Purpose of its draws; see `training.methods.method.step_seed`."""


class Adversary:
    """Discriminator, its losses, its pool of earlier fakes, and the generator's adversarial term.

    Args:
        config: Section of the recipe.
        options: Length of the run, momenta and seed.
        device: Device of the discriminator.
        in_channels: Channels of its images: 1, or 2 with the enlarged LR image as a condition.

    Attributes:
        discriminator: The network.
    """

    def __init__(
        self,
        config: AdversarialConfig,
        options: OptimizationConfig,
        device: torch.device,
        *,
        in_channels: int = 1,
    ) -> None:
        self.config = config
        self.options = options
        self.device = device
        network = PatchDiscriminator(in_channels=in_channels, **config.discriminator.model_dump())
        self.discriminator = network.to(device)
        self.pool = ImagePool(
            generator=step_generator(options.seed, 0, FOR_POOL), capacity=config.pool_size
        )
        self.balance = GradientBalance()

    def phase(self, terms: Callable[[], Mapping[str, torch.Tensor]]) -> Phase:
        """Return the phase that trains the discriminator on the given terms."""
        return adam_phase(
            "discriminator",
            self.discriminator.parameters(),
            learning_rate=self.config.learning_rate,
            betas=self.options.betas,
            terms=terms,
        )

    def state(self) -> dict[str, Any]:
        """Return the pool of old fakes and the running balance."""
        return {"pool": self.pool.state_dict(), "balance": self.balance.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the pool and the running balance."""
        self.pool.load_state_dict(state["pool"], device=self.device)
        self.balance.load_state_dict(state["balance"])

    def judged(
        self, real: torch.Tensor, sr: torch.Tensor, structure: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return equal numbers of real and generated crops for the discriminator.

        The discriminator always sees the whole picture: without grain, a structure would be easy
        to tell from HR images. The recipe's `reaches` selects the part that gets the gradient. With
        "grain", the adversary only changes the grain, so it can neither invent nor erase structure.
        With "structure", it only changes the structure, such as the look of edges; the energy and
        statistics terms then train the grain.

        Args:
            real: (M, 1, H, W) HR crops.
            sr: (N, 1, H, W) generated, the unpaired ones last.
            structure: `sr` without its grain, or None.
        """
        reaches = self.config.reaches
        if structure is not None and reaches == "grain":
            sr = sr - structure + structure.detach()
        elif structure is not None and reaches == "structure":
            sr = structure + (sr - structure).detach()
        count = min(self.config.images_per_step or len(sr), len(sr), len(real))
        # Evenly from all of the batch, in which one tool's crops follow the other's.
        spread = torch.arange(count, device=real.device) * len(real) // count
        return real[spread], sr[-count:]

    def own_terms(
        self, step: int, real: torch.Tensor, fake: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the discriminator's weighted loss terms; empty before its start."""
        config = self.config
        if not ramp(step, steps=self.options.steps, start_share=config.start_share):
            return {}
        fake = self.pool.exchange(fake.detach())
        penalised = config.penalty_gamma > 0 and step % config.penalty_interval == 0
        if penalised:
            real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
        on_real, on_fake = self.discriminator(real), self.discriminator(fake)
        loss = lsgan_d if config.loss == "lsgan" else relativistic_d
        terms = {"discriminator": loss(on_real.float(), on_fake.float())}
        if penalised:
            penalty = zero_centred_penalty(on_real, real) + zero_centred_penalty(on_fake, fake)
            # Lazily computed, so weighted by the interval.
            factor = 0.5 * config.penalty_gamma * config.penalty_interval
            terms["penalty"] = factor * penalty
        return terms

    def term(
        self,
        step: int,
        real: torch.Tensor,
        fake: torch.Tensor,
        *,
        structural: Mapping[str, torch.Tensor],
        picture: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Return the generator's weighted adversarial term; empty before its start.

        Args:
            step: Number of the step, from 0.
            real: HR crops.
            fake: Generated crops, in the graph.
            structural: Terms to balance with.
            picture: Pictures that all terms reach, where the balance is measured.
        """
        config = self.config
        weight = config.weight * ramp(
            step,
            steps=self.options.steps,
            start_share=config.start_share,
            ramp_share=config.ramp_share,
        )
        if not weight:
            return {}
        with frozen(self.discriminator):
            on_fake = self.discriminator(fake).float()
        if config.loss == "lsgan":
            loss = lsgan_g(on_fake)
        else:
            with torch.no_grad():
                on_real = self.discriminator(real).float()
            loss = relativistic_g(on_real, on_fake)
        if config.balanced:
            total = sum(structural.values(), loss * 0)
            weight *= self.balance.update(total, loss, picture)
        return {"gan": weight * loss}
