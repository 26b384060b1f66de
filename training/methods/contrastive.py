"""Contrastive translation of LR tiles to the HR look: CUT, MoNCE with FSeSim, and QS-Attn.

A discriminator pulls the output to the look of HR images. The contrast keeps the content: a place
of the output must resemble its own place of the enlarged LR image more than other places. Neither
needs pairs. The identity term asks the same of HR crops that the generator translates; it keeps the
generator from changing what already looks like HR.

L = L_GAN + 0.5 (NCE(u, G(u)) + NCE(y, G*(y))) + w FSeSim(u, G(u)), where u is the enlarged LR crop,
y an HR crop of another place, and G* the generator without enlargement.

Generators on the LR grid have no encoder at the size of the output, and take no HR images. They use
features of VGG16 on (u, structure), without the identity term.

Source: Park et al. 2020 (CUT); Zhan et al. 2022 (MoNCE); the thesis for their sum with FSeSim.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Generator
from models.blocks import BicubicUpsample
from models.grain_head import GrainGenerator
from models.resnet9 import ResNet9
from training.config.contrastive import ContrastiveConfig
from training.config.recipe import ConfigError
from training.methods.inputs import (
    PLAIN_HR_SEED,
    Inputs,
    domain_crops,
    first_crops,
    held_out_psnr,
    new_generator,
    plain_sampler,
)
from training.methods.method import Method, Phase, adam_phase, step_generator
from training.methods.parts.adversary import Adversary
from training.methods.parts.grain import bound_grain, forward_parts
from training.methods.parts.patch_contrast import Features, PatchContrast
from training.methods.parts.similarity import Similarity
from training.methods.pictures import sample_picture

FOR_PLACES, FOR_IDENTITY = 5, 6
"""Purposes of the draws of one step; see `methods.method.step_seed`."""


class Contrastive(Method[Generator]):
    """Generator training with a discriminator, PatchNCE or MoNCE, and optionally FSeSim."""

    def __init__(self, inputs: Inputs, config: ContrastiveConfig) -> None:
        options, device = inputs.recipe.optimization, inputs.device
        self.inputs = inputs
        self.config = config
        self.seed = options.seed
        self.generator = new_generator(inputs)
        self._set_up_grain()
        self.enlarge = BicubicUpsample(scale=self.generator.scale).to(device)
        # In the order in which their weights are drawn from the global seed.
        has_adversary = bool(config.adversarial.weight)
        self.adversary = Adversary(config.adversarial, options, device) if has_adversary else None
        self.contrast = PatchContrast(config.contrast, self.generator, device, vgg16=inputs.vgg16)
        self.similarity: Similarity | None = None
        if config.self_similarity.weight:
            self.similarity = Similarity(
                config.self_similarity, options, device, vgg16=inputs.vgg16
            )
        scale = self.generator.scale
        self.lr = plain_sampler(
            inputs,
            "lr",
            [tool.lr for tool in inputs.seen_tools],
            batch_size=options.batch_size,
            crop_px=options.crop_px,
            seed=self.seed,
            flips=config.flips,
        )
        self.hr = plain_sampler(
            inputs,
            "hr",
            [tool.hr for tool in inputs.seen_tools],
            batch_size=options.batch_size,
            crop_px=scale * options.crop_px,
            seed=self.seed + PLAIN_HR_SEED,
            flips=config.flips,
        )
        self._measure = held_out_psnr(inputs, scale=scale)
        self._sample_crops = first_crops(inputs)
        self.phases = self._phases()

    def _set_up_grain(self) -> None:
        if isinstance(self.generator, GrainGenerator):
            is_trained = self.inputs.start is not None
            bound_grain(self.generator, self.inputs.hr, is_trained=is_trained)
        elif self.config.adversarial.reaches != "all":
            raise ConfigError(
                f"method.adversarial.reaches is {self.config.adversarial.reaches!r}, but the "
                f"generator {self.inputs.recipe.generator.name!r} does not give structure and "
                "grain apart"
            )

    def prepare(self, step: int) -> None:
        """Draw the batch and run the generator once on LR crops and once on HR crops."""
        device, generator = self.inputs.device, self.generator
        self._step = step
        self.contrast.follow(step)
        lr = self.lr.batch(step).to(device)
        self._hr = self.hr.batch(step).to(device)
        self._source = self.enlarge(lr).clamp(0, 1)
        (self._sr, self._structure), self._keys = self.contrast.run(
            lambda: forward_parts(generator, lr), self._source
        )
        self._same: tuple[torch.Tensor, Features] | None = None
        if self.config.contrast.identity and isinstance(generator, ResNet9):
            self._same = self.contrast.run(lambda: generator.translate(self._hr), self._hr)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the F-MLP, and the discriminator, averaged keys and heads that the recipe uses."""
        modules = {
            "discriminator": self.adversary and self.adversary.discriminator,
            "metric": self.similarity and self.similarity.metric,
            **self.contrast.modules(),
        }
        return {name: module for name, module in modules.items() if module is not None}

    def extra_state(self) -> dict[str, Any]:
        """Return the adversary's state, where there is one."""
        return {} if self.adversary is None else self.adversary.state()

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the adversary's state."""
        if self.adversary is not None:
            self.adversary.load_state(state)

    def describe(self) -> dict[str, Any]:
        """Describe the run; no image is degraded, so that no tool's ranges belong to it."""
        return self.inputs.describe(domain_crops(self.inputs), lr_images=self.inputs.lr, tools=())

    def validate(self, average: Generator) -> dict[str, float]:
        """Measure PSNR on the held-out tiles; without such tiles the result is empty."""
        return self._measure(average)

    def sample(self, average: Generator) -> NDArray[np.uint8]:
        """Show bicubic and SR of the same real LR crops each time."""
        return sample_picture(average, self._sample_crops)

    # --- phases ---

    def _phases(self) -> tuple[Phase, ...]:
        options = self.inputs.recipe.optimization
        phases: list[Phase] = []
        if self.similarity is not None:
            phases += self.similarity.phase(self._metric_terms)
        if self.adversary is not None:
            phases.append(self.adversary.phase(self._discriminator_terms))
        # The published code steps the F-MLP by an Adam of its own, at the generator's rate and in
        # the same backward pass. Adam treats each parameter alone: one optimiser does the same.
        learned = [*self.generator.parameters(), *self.contrast.head.parameters()]
        phases.append(
            adam_phase(
                "generator",
                learned,
                learning_rate=options.learning_rate,
                betas=options.betas,
                terms=self._generator_terms,
            )
        )
        return tuple(phases)

    def _metric_terms(self) -> Mapping[str, torch.Tensor]:
        if self.similarity is None:
            return {}
        return self.similarity.metric_terms(self._step, self._source, self._picture(), self._hr)

    def _discriminator_terms(self) -> Mapping[str, torch.Tensor]:
        if self.adversary is None:
            return {}
        return self.adversary.own_terms(self._step, *self._judged(self.adversary))

    def _generator_terms(self) -> Mapping[str, torch.Tensor]:
        terms = self._contrast_terms()
        if self.similarity is not None:
            count = self.config.self_similarity.images_per_step or len(self._sr)
            terms |= self.similarity.term(
                self._step, self._source[-count:], self._picture()[-count:]
            )
        if self.adversary is not None:
            terms |= self.adversary.term(
                self._step,
                *self._judged(self.adversary),
                structural=dict(terms),
                picture=self._picture(),
            )
        return terms

    def _contrast_terms(self) -> dict[str, torch.Tensor]:
        weight = self.config.contrast.weight
        draws = step_generator(self.seed, self._step, FOR_PLACES)
        loss = self.contrast.loss(self._keys, self._picture(), draws=draws)
        if self._same is None:
            return {"contrast": weight * loss}
        same, keys = self._same
        draws = step_generator(self.seed, self._step, FOR_IDENTITY)
        identity = self.contrast.loss(keys, same, draws=draws)
        return {"contrast": 0.5 * weight * loss, "identity": 0.5 * weight * identity}

    # --- parts of the batch ---

    def _picture(self) -> torch.Tensor:
        """Return the image for the structure terms: the output, without grain if it is separate."""
        return self._sr if self._structure is None else self._structure

    def _judged(self, adversary: Adversary) -> tuple[torch.Tensor, torch.Tensor]:
        """Return equal numbers of real and generated crops for the discriminator."""
        return adversary.judged(self._hr, self._sr, self._structure)
