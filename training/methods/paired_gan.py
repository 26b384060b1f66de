"""Paired GAN (pix2pix): translation of aligned pairs, judged together with its input.

The input is an LR image, which the generator enlarges by bicubic, or, for a generator of scale 1, a
picture that another method such as ZSSR has enlarged. The discriminator sees the input and the
image as two channels, so that it also judges whether the one belongs to the other.

Each step draws aligned crops, runs the generator once, and steps the discriminator, then the
generator.

Source: Isola et al. 2017, "Image-to-image translation with conditional adversarial networks".
Different from its code: the input noise, dropout, is off unless the generator has it, and off when
the generator is used; norms of one image in place of batch norm at a batch of 1, the same function.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models import Generator
from models.blocks import BicubicUpsample
from models.dropout import dropout_drawn_by
from training.config.paired_gan import PairedGanConfig
from training.config.recipe import ConfigError
from training.data.augmentation.aligned_patches import with_aligned_patches
from training.data.augmentation.patch_source import natural_source
from training.data.given_pairs import SourcePair
from training.losses.gan import lsgan_d, lsgan_g, vanilla_d, vanilla_g
from training.methods.inputs import Inputs, aligned_sampler, new_generator
from training.methods.method import Method, Phase, adam_phase, step_generator
from training.methods.parts.discriminators import PatchDiscriminator
from training.methods.parts.frozen import frozen
from training.methods.parts.held_out_pairs import mean_psnr
from training.methods.pictures import sample_picture, upscale

FOR_DROPOUT = 5
"""Purpose of the draws of one step; see `methods.method.step_seed`."""

DOMAIN_BATCHES = 8

LOSSES: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]] = {
    "vanilla": (vanilla_d, vanilla_g),
    "lsgan": (lsgan_d, lsgan_g),
}
"""Losses of discriminator and generator, by the recipe's `adversarial_loss`."""


class PairedGan(Method[Generator]):
    """Pixel loss on given pairs, and a discriminator of (input, output) pairs.

    Raises:
        ConfigError: Pairs are shifted against each other, or patches do not fit into them.
    """

    def __init__(self, inputs: Inputs, config: PairedGanConfig) -> None:
        _check_aligned([*inputs.pairs, *inputs.held_out_pairs])
        self.inputs = inputs
        self.config = config
        self.generator = new_generator(inputs)
        scale = self.generator.scale
        self.enlarge = BicubicUpsample(scale=scale).to(inputs.device)
        self.discriminator: PatchDiscriminator | None = None
        if config.adversarial_weight:
            network = PatchDiscriminator(
                in_channels=2,
                init="normal",
                **config.discriminator.model_dump(exclude={"learning_rate"}),
            )
            self.discriminator = network.to(inputs.device)
        self.sampler = aligned_sampler(
            inputs, scale=scale, turns=config.turns, change=self._patched
        )
        self.phases = self._phases()
        self._hr = self._sr = self._source = torch.empty(0)

    def prepare(self, step: int) -> None:
        """Draw the crops of a step and run the generator once; both phases use that output."""
        batch = self.sampler.batch(step).to(self.inputs.device)
        self._hr = batch.hr
        self._source = self.enlarge(batch.lr).clamp(0, 1)
        draws = step_generator(self.inputs.recipe.optimization.seed, step, FOR_DROPOUT)
        with dropout_drawn_by(self.generator, draws):
            self._sr = self.generator(batch.lr)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the discriminator, if there is one."""
        return {} if self.discriminator is None else {"discriminator": self.discriminator}

    def describe(self) -> dict[str, Any]:
        """Describe the run; the LR statistics are those of the first batches."""
        crops = np.concatenate(
            [255.0 * self.sampler.batch(step).lr[:, 0].numpy() for step in range(DOMAIN_BATCHES)]
        )
        lr_images = [pair.lr for pair in self.inputs.pairs]
        return self.inputs.describe(crops, lr_images=lr_images, tools=())

    def validate(self, average: Generator) -> dict[str, float]:
        """Measure PSNR on the held-out pairs; without such pairs the result is empty."""
        return mean_psnr(
            (upscale(average, pair.lr.pixels), pair.hr.pixels)
            for pair in self.inputs.held_out_pairs
        )

    def sample(self, average: Generator) -> NDArray[np.uint8]:
        """Show bicubic (at scale 1 the input), output and HR of the crops of step 0."""
        batch = self.sampler.batch(0)
        return sample_picture(average, batch.lr, references=batch.hr)

    def _patched(self, pairs: Sequence[SourcePair]) -> Sequence[SourcePair]:
        patches = self.config.patches
        if not patches.num_copies:
            return pairs
        return with_aligned_patches(
            pairs,
            num_patches=patches.num_patches,
            num_copies=patches.num_copies,
            scale=self.generator.scale,
            source=natural_source(),
            seed=self.inputs.recipe.optimization.seed,
            sides_px=patches.sides_px,
        )

    # --- phases ---

    def _phases(self) -> tuple[Phase, ...]:
        options = self.inputs.recipe.optimization
        generator = adam_phase(
            "generator",
            self.generator.parameters(),
            learning_rate=options.learning_rate,
            betas=options.betas,
            terms=self._generator_terms,
        )
        if self.discriminator is None:
            return (generator,)
        discriminator = adam_phase(
            "discriminator",
            self.discriminator.parameters(),
            learning_rate=self.config.discriminator.learning_rate,
            betas=options.betas,
            terms=self._discriminator_terms,
        )
        return (discriminator, generator)

    def _discriminator_terms(self) -> Mapping[str, torch.Tensor]:
        loss, _ = LOSSES[self.config.adversarial_loss]
        return {"discriminator": loss(self._logits(self._hr), self._logits(self._sr.detach()))}

    def _generator_terms(self) -> Mapping[str, torch.Tensor]:
        config = self.config
        # The published weight belongs to greys in -1 to 1, whose distances are twice as large.
        distance = 2 * functional.l1_loss(self._sr.float(), self._hr)
        terms = {"pixel": config.pixel_weight * distance}
        if self.discriminator is not None:
            _, loss = LOSSES[config.adversarial_loss]
            with frozen(self.discriminator):
                terms["gan"] = config.adversarial_weight * loss(self._logits(self._sr))
        return terms

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        """Judge images (N, 1, s*H, s*W), each next to its input; return logits (N, 1, h, w)."""
        if self.discriminator is None:
            raise RuntimeError("a method without a discriminator")
        return self.discriminator(torch.cat([self._source, images], dim=1)).float()


def _check_aligned(pairs: Sequence[SourcePair]) -> None:
    """Reject shifted pairs: an L1 loss of shifted images learns their mean, a blur."""
    shifted = [pair for pair in pairs if pair.dy or pair.dx]
    if shifted:
        first = shifted[0]
        raise ConfigError(
            f"{len(shifted)} pairs are shifted, the first, {first.name}, by dy {first.dy}, dx "
            f"{first.dx} HR px; paired_gan compares pixels at the same place: leave `alignment` "
            "out of the pairs to train on them as they are"
        )
