"""F-LSeSim: unpaired translation of LR tiles to the HR look that keeps the LR tile's structure.

A batch consists of pseudo-pairs and of real LR crops, for which only unaligned HR crops exist.
The terms `gan`, `self_similarity`, `consistency` and the statistics need no pairs. The pixel terms
(`training.methods.parts.paired_terms`) use the pseudo-pairs. The recipe `f_lsesim_paper` is the
paper's own form: its networks and weights, without pseudo-pairs and without consistency.

Source: Zheng, Cham and Cai 2021 (FSeSim, LSeSim), on the half-cycle of Zhu et al. 2017 (CycleGAN);
pseudo-pairs after Maeda 2020, "Unpaired image super-resolution using pseudo-supervision".
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Generator
from models.blocks import BicubicUpsample
from training.config.method import FLSeSimConfig
from training.config.recipe import ConfigError
from training.data.pair_samplers import PairBatch
from training.methods.inputs import (
    PLAIN_HR_SEED,
    Inputs,
    domain_crops,
    first_crops,
    held_out_psnr,
    new_generator,
    pair_sampler,
    patched_copies,
    plain_sampler,
)
from training.methods.method import Method, Phase, adam_phase, ramp, step_generator
from training.methods.parts.adversary import Adversary
from training.methods.parts.grain import forward_parts, set_up_grain
from training.methods.parts.input_mask import mask_input
from training.methods.parts.paired_terms import paired_terms
from training.methods.parts.similarity import Similarity
from training.methods.parts.surrogate import SurrogatePhase
from training.methods.parts.unpaired_terms import consistency_terms, statistics_terms
from training.methods.pictures import sample_picture

FOR_STATISTICS = 1
"""Purpose of the draws of one step; see `methods.method.step_seed`."""


class FLSeSim(Method[Generator]):
    """Generator training with the optional discriminator, learned metric and surrogate detector."""

    def __init__(self, inputs: Inputs, config: FLSeSimConfig) -> None:
        options = inputs.recipe.optimization
        device = inputs.device
        self.inputs = inputs
        self.config = config
        self.seed = options.seed
        self.generator = new_generator(inputs)
        set_up_grain(
            self.generator,
            config,
            name=inputs.recipe.generator.name,
            hr=inputs.hr,
            is_trained=inputs.start is not None,
        )
        if config.surrogate.is_used and not config.paired.share:
            raise ConfigError(
                "method.surrogate learns on pseudo-pairs, but method.paired.share is 0"
            )
        self.enlarge = BicubicUpsample(scale=self.generator.scale).to(device)
        # In the order in which their weights are drawn from the global seed.
        has_adversary = bool(config.adversarial.weight)
        self.adversary = Adversary(config.adversarial, options, device) if has_adversary else None
        self.similarity: Similarity | None = None
        if config.self_similarity.weight:
            self.similarity = Similarity(
                config.self_similarity, options, device, vgg16=inputs.vgg16
            )
        is_taught = config.surrogate.is_used
        self.surrogate = SurrogatePhase(config.surrogate, options, device) if is_taught else None
        self._make_samplers()
        self._pairs: PairBatch | None = None
        self._plain_hr: torch.Tensor | None = None
        self._measure = held_out_psnr(inputs, scale=self.generator.scale)
        self._sample_crops = first_crops(inputs)
        self._step = 0
        self.phases = self._phases()

    def _make_samplers(self) -> None:
        """Make the samplers of pseudo-pairs, of real LR crops and of plain HR crops."""
        inputs, config, scale = self.inputs, self.config, self.generator.scale
        options, copies = inputs.recipe.optimization, config.patched_copies
        self.num_paired = round(options.batch_size * config.paired.share)
        self.num_unpaired = options.batch_size - self.num_paired
        # The HR side of these crops is also what the discriminator takes for real: it then knows
        # planted structure as legitimate.
        self.pairs = (
            pair_sampler(
                inputs,
                scale=scale,
                batch_size=self.num_paired,
                added=config.paired,
                change=lambda images: patched_copies(images, copies, seed=self.seed),
            )
            if self.num_paired
            else None
        )
        self.lr = plain_sampler(
            inputs,
            "lr",
            [
                patched_copies(tool.lr, copies, seed=self.seed, shrink=scale)
                for tool in inputs.seen_tools
            ],
            batch_size=self.num_unpaired,
            crop_px=options.crop_px,
            seed=self.seed,
            flips=config.flips,
        )
        # Statistics compare like with like: crops of real LR images with plain HR crops of the same
        # tool, neither chosen by contrast nor planted in. Without pairs the discriminator's are
        # these too.
        self.plain_hr = (
            plain_sampler(
                inputs,
                "hr",
                [patched_copies(tool.hr, copies, seed=self.seed) for tool in inputs.seen_tools],
                batch_size=self.num_unpaired,
                crop_px=scale * options.crop_px,
                seed=self.seed + PLAIN_HR_SEED,
                flips=config.flips,
            )
            if self.num_unpaired and (not self.num_paired or config.statistics.is_used)
            else None
        )

    def prepare(self, step: int) -> None:
        """Draw the batch and run the generator once; every phase uses that one output."""
        device = self.inputs.device
        self._step = step
        self._plain_hr = None if self.plain_hr is None else self.plain_hr.batch(step).to(device)
        self._pairs = None if self.pairs is None else self.pairs.batch(step).to(device)
        parts = [] if self._pairs is None else [self._pairs.lr]
        parts += [self.lr.batch(step).to(device)] if self.num_unpaired else []
        self._lr = torch.cat(parts)
        # What terms compare with is the whole crop.
        seen = mask_input(
            self._lr,
            self.config.input_mask,
            step=step,
            steps=self.inputs.recipe.optimization.steps,
            seed=self.seed,
        )
        self._sr, self._structure = forward_parts(self.generator, seen)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the discriminator, the learned metric and the surrogate that the recipe uses."""
        modules = {
            "discriminator": self.adversary and self.adversary.discriminator,
            "metric": self.similarity and self.similarity.metric,
            "surrogate": self.surrogate and self.surrogate.detector,
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
        """Describe the run; the LR statistics are those of real LR crops."""
        inputs = self.inputs
        return inputs.describe(
            domain_crops(inputs),
            lr_images=inputs.lr,
            tools=inputs.tools if self.pairs is not None else (),
        )

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
        if self.surrogate is not None:
            phases.append(self.surrogate.phase(lambda: self._pairs))
        phases.append(
            adam_phase(
                "generator",
                self.generator.parameters(),
                learning_rate=options.learning_rate,
                betas=options.betas,
                terms=self._generator_terms,
            )
        )
        return tuple(phases)

    def _metric_terms(self) -> Mapping[str, torch.Tensor]:
        if self.similarity is None:
            return {}
        source, fake = self._unpaired(self._source()), self._unpaired(self._picture())
        return self.similarity.metric_terms(self._step, source, fake, self._real())

    def _discriminator_terms(self) -> Mapping[str, torch.Tensor]:
        if self.adversary is None:
            return {}
        return self.adversary.own_terms(self._step, *self._judged(self.adversary))

    def _generator_terms(self) -> Mapping[str, torch.Tensor]:
        terms: dict[str, torch.Tensor] = {}
        if self._pairs is not None:
            num = self.num_paired
            structure = None if self._structure is None else self._structure[:num]
            terms |= paired_terms(
                self._sr[:num], structure, self._pairs.hr, self._pairs.mask, self.config.paired
            )
        terms |= self._similarity_term()
        terms |= consistency_terms(
            self._picture(), self._lr, self.config.consistency, scale=self.generator.scale
        )
        terms |= self._adversarial_term(terms)
        terms |= self._statistics_terms()
        if self.surrogate is not None and self._pairs is not None:
            terms |= self.surrogate.terms(
                self._step, self._pairs, self._sr[: self.num_paired], self._unpaired(self._sr)
            )
        return terms

    def _adversarial_term(self, structural: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.adversary is None:
            return {}
        real, fake = self._judged(self.adversary)
        # All of these terms reach the picture's structure; not all of them its grain.
        return self.adversary.term(
            self._step, real, fake, structural=structural, picture=self._picture()
        )

    def _similarity_term(self) -> dict[str, torch.Tensor]:
        if self.similarity is None:
            return {}
        count = self.config.self_similarity.images_per_step or self.num_unpaired or len(self._sr)
        # Unpaired crops come last in the batch: nothing else holds their structure.
        source, fake = self._source()[-count:], self._picture()[-count:]
        return self.similarity.term(self._step, source, fake)

    def _statistics_terms(self) -> dict[str, torch.Tensor]:
        config = self.config.statistics
        steps = self.inputs.recipe.optimization.steps
        if not ramp(self._step, steps=steps, start_share=config.start_share):
            return {}
        real, fake, structure = self._real(), self._sr, self._structure
        if self._plain_hr is not None:
            real, fake = self._plain_hr, self._unpaired(self._sr)
            structure = None if structure is None else self._unpaired(structure)
        draws = step_generator(self.seed, self._step, FOR_STATISTICS)
        return statistics_terms(fake, real, config, structure=structure, generator=draws)

    # --- parts of the batch ---

    def _picture(self) -> torch.Tensor:
        """Return the image for the structure terms: the output, without grain if it is separate.

        With grain, self-similarity would punish the wanted grain more than a lost defect: in
        simulated HR crops, erasing a blob of 8 px costs 0.2 to 0.9 times as much as new grain.
        """
        return self._sr if self._structure is None else self._structure

    def _source(self) -> torch.Tensor:
        """Return the enlarged LR crops, whose structure the output must keep."""
        return self.enlarge(self._lr).clamp(0, 1)

    def _unpaired(self, batch: torch.Tensor) -> torch.Tensor:
        return batch[self.num_paired :]

    def _judged(self, adversary: Adversary) -> tuple[torch.Tensor, torch.Tensor]:
        """Return equal numbers of real and generated crops for the discriminator."""
        return adversary.judged(self._real(), self._sr, self._structure)

    def _real(self) -> torch.Tensor:
        """Return the step's HR crops: those of the pairs, with planted defects, or plain ones."""
        if self._pairs is not None:
            return self._pairs.hr
        if self._plain_hr is None:
            raise RuntimeError("a batch without HR crops")
        return self._plain_hr
