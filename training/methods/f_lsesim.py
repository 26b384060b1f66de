"""F-LSeSim: unpaired translation of LR tiles to the HR look, held to the LR tile's structure.

A batch is part real LR crops, for which only unaligned HR crops exist, and part pseudo-pairs. Of
the generator's terms, `gan`, the statistics and the self-similarity need no pairs; the pixel terms
(`training.methods.parts.paired_terms`) need the pseudo-pairs. The paper's own form is the recipe
`f_lsesim_paper`: no pairs, no consistency, its networks and weights.

Source: Zheng, Cham and Cai 2021 (FSeSim, LSeSim), on the half-cycle of Zhu et al. 2017 (CycleGAN);
pseudo-pairs after Maeda 2020, "Unpaired image super-resolution using pseudo-supervision".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Generator
from models.blocks import BicubicUpsample
from models.grain_head import GrainGenerator
from training.config.method import FLSeSimConfig, StatisticsConfig
from training.config.recipe import ConfigError
from training.data.datasets import KnownTool
from training.data.degradation.noise import estimate_noise
from training.data.feed import Fed
from training.data.images import SourceImage
from training.data.samplers import PairBatch, PlainSampler
from training.losses.features import load_vgg16
from training.losses.learned_correlation import LearnedCorrelation
from training.losses.spatial_correlation import SpatialCorrelation
from training.methods.inputs import (
    TOOL_SEEDS,
    Inputs,
    domain_crops,
    first_crops,
    held_out_psnr,
    new_generator,
    pair_sampler,
    patched_copies,
    sample_picture,
)
from training.methods.method import Method, Phase, ramp, step_generator
from training.methods.parts.adversary import Adversary
from training.methods.parts.input_mask import mask_input
from training.methods.parts.paired_terms import forward_parts, has_parts, paired_terms
from training.methods.parts.surrogate import SurrogatePhase
from training.methods.parts.unpaired_terms import consistency_terms, statistics_terms
from training.methods.unpaired_crops import OneToolSampler
from training.run.provenance import describe_training

PLAIN_HR_SEED = 7_000_003
"""Between the seeds of plain LR and HR crops: their places must have nothing in common."""

FOR_QUERIES, FOR_STATISTICS, FOR_METRIC = range(3)
"""What the draws of one step are for; see `training.methods.method.step_seed`."""


class FLSeSim(Method):
    """Generator, discriminator and, for LSeSim, a learned metric."""

    def __init__(self, inputs: Inputs, config: FLSeSimConfig) -> None:
        options = inputs.recipe.optimization
        device = inputs.device
        self.inputs = inputs
        self.config = config
        self.seed = options.seed
        self.generator = new_generator(inputs)
        if isinstance(self.generator, GrainGenerator):
            noise = estimate_noise([image.pixels for image in inputs.hr])
            self.generator.limit_grain(base=noise.base, slope=noise.slope)
        if config.trains == "grain":
            if not isinstance(self.generator, GrainGenerator):
                raise ConfigError(
                    "method.trains is 'grain', but the generator "
                    f"{inputs.recipe.generator.name!r} does not give structure and grain apart"
                )
            self.generator.requires_grad_(requires_grad=False)
            for module in self.generator.grain_modules():
                module.requires_grad_()
        scale = self.generator.scale
        if config.surrogate.is_used and not config.paired.share:
            raise ConfigError(
                "method.surrogate learns on pseudo-pairs, but method.paired.share is 0"
            )
        if config.adversarial.reaches != "all" and not has_parts(self.generator):
            raise ConfigError(
                f"method.adversarial.reaches is {config.adversarial.reaches!r}, but the generator "
                f"{inputs.recipe.generator.name!r} does not give structure and grain apart"
            )
        self.enlarge = BicubicUpsample(scale=scale).to(device)
        self.adversary = (
            Adversary(
                config.adversarial,
                seed=self.seed,
                steps=options.steps,
                device=device,
                betas=options.betas,
            )
            if config.adversarial.weight
            else None
        )
        similarity = config.self_similarity
        self.similarity: SpatialCorrelation | None = None
        self.metric: LearnedCorrelation | None = None
        if similarity.weight:
            features = load_vgg16(inputs.vgg16, taps=similarity.taps).to(device)
            if similarity.learned is None:
                self.similarity = SpatialCorrelation(
                    features,
                    form=similarity.form,
                    num_queries=similarity.queries,
                    window_px=similarity.window_px,
                    salient_share=similarity.salient_share,
                )
            else:
                self.metric = LearnedCorrelation(
                    features,
                    form=similarity.form,
                    num_queries=similarity.queries,
                    window_px=similarity.window_px,
                    positives=similarity.learned,
                    init=similarity.learned_init,
                ).to(device)
        num_paired = round(options.batch_size * config.paired.share)
        copies = config.patched_copies

        def with_copies(images: Sequence[SourceImage], shrink: int = 1) -> list[SourceImage]:
            return patched_copies(
                images,
                num_patches=copies.num_patches,
                num_copies=copies.num_copies,
                shrink=shrink,
                seed=self.seed,
            )

        self.num_paired = num_paired
        self.num_unpaired = options.batch_size - num_paired
        # The HR side of these crops is also what the discriminator takes for real: it then knows
        # planted structure as legitimate.
        self.pairs = (
            pair_sampler(
                inputs, scale=scale, batch_size=num_paired, added=config.paired, change=with_copies
            )
            if num_paired
            else None
        )
        self.lr = self._plain("lr", [with_copies(tool.lr, scale) for tool in self._seen_tools()])
        # Statistics compare like with like: crops of real LR images with plain HR crops of the same
        # tool, neither chosen by contrast nor planted in. Without pairs the discriminator's are
        # these too.
        self.plain_hr = (
            self._plain(
                "hr",
                [with_copies(tool.hr) for tool in self._seen_tools()],
                crop_px=scale * options.crop_px,
                seed=self.seed + PLAIN_HR_SEED,
            )
            if self.num_unpaired and (not num_paired or _uses_statistics(config.statistics))
            else None
        )
        self.surrogate = (
            SurrogatePhase(
                config.surrogate, steps=options.steps, device=device, betas=options.betas
            )
            if config.surrogate.is_used
            else None
        )
        self._pairs: PairBatch | None = None
        self._plain_hr: torch.Tensor | None = None
        self._measure = held_out_psnr(inputs, scale=scale)
        self._sample_crops = first_crops(inputs)
        self._step = 0
        self.phases = self._phases()

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
        """Discriminator, learned metric and surrogate, where the recipe has them."""
        modules = {
            "discriminator": self.adversary and self.adversary.discriminator,
            "metric": self.metric,
            "surrogate": self.surrogate and self.surrogate.detector,
        }
        return {name: module for name, module in modules.items() if module is not None}

    def extra_state(self) -> dict[str, Any]:
        """Return the adversary's, where there is one."""
        return {} if self.adversary is None else self.adversary.state()

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the adversary's state back."""
        if self.adversary is not None:
            self.adversary.load_state(state)

    def describe(self) -> dict[str, Any]:
        """Describe the run; the LR statistics are those of real LR crops."""
        return describe_training(
            self.inputs.recipe,
            hr_images=self.inputs.hr,
            lr_images=self.inputs.lr,
            held_out=self.inputs.held_out,
            tools=self.inputs.tools if self.pairs is not None else (),
            lr_crops=domain_crops(self.inputs),
        )

    def validate(self, average: Generator) -> dict[str, float]:
        """PSNR on the held-out tiles, where the recipe has any."""
        return self._measure(average)

    def sample(self, average: Generator) -> NDArray[np.uint8]:
        """Bicubic and SR of the same real LR crops each time."""
        return sample_picture(average, self._sample_crops)

    def _seen_tools(self) -> list[KnownTool]:
        """Tools with real LR images; another is seen in pseudo-pairs alone."""
        return [tool for tool in self.inputs.tools if tool.lr]

    def _plain(
        self,
        name: str,
        images: Sequence[Sequence[SourceImage]],
        *,
        crop_px: int | None = None,
        seed: int | None = None,
    ) -> Fed[torch.Tensor]:
        """Sample unpaired crops; of LR size and with the run's seed unless others are given."""
        seed = self.seed if seed is None else seed
        samplers = [
            PlainSampler(
                of_tool,
                crop_px=crop_px or self.inputs.recipe.optimization.crop_px,
                batch_size=self.num_unpaired,
                seed=seed + TOOL_SEEDS * number,
                flips=self.config.flips,
            )
            for number, of_tool in enumerate(images)
        ]
        shares = [tool.share for tool in self._seen_tools()]
        sampler = OneToolSampler(samplers, shares, seed=self.seed)
        return self.inputs.feed.add(name, sampler)

    # --- phases ---

    def _phases(self) -> tuple[Phase, ...]:
        options = self.inputs.recipe.optimization
        similarity = self.config.self_similarity

        def adam(module: torch.nn.Module, rate: float) -> torch.optim.Optimizer:
            return torch.optim.Adam(module.parameters(), lr=rate, betas=options.betas)

        phases = []
        if self.metric is not None:
            rate = similarity.learned_learning_rate
            phases.append(
                Phase(
                    name="metric",
                    optimizer=adam(self.metric, rate),
                    learning_rate=rate,
                    terms=self._metric_terms,
                )
            )
        if self.adversary is not None:
            phases.append(
                Phase(
                    name="discriminator",
                    optimizer=self.adversary.optimizer,
                    learning_rate=self.config.adversarial.learning_rate,
                    terms=self._discriminator_terms,
                )
            )
        if self.surrogate is not None:
            phases.append(self.surrogate.phase(self._known_pairs))
        phases.append(
            Phase(
                name="generator",
                optimizer=adam(self.generator, options.learning_rate),
                learning_rate=options.learning_rate,
                terms=self._generator_terms,
            )
        )
        return tuple(phases)

    def _metric_terms(self) -> Mapping[str, torch.Tensor]:
        if self.metric is None or not self.num_unpaired:
            return {}
        others = self._real()
        source, fake = self._unpaired(self._source()), self._unpaired(self._picture())
        count = min(len(source), len(others))
        loss = self.metric.metric_loss(
            source[:count],
            fake[:count].detach(),
            others[:count],
            generator=step_generator(self.seed, self._step, FOR_METRIC),
        )
        return {"metric": loss}

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
        similarity = self.config.self_similarity
        if self._step % similarity.interval:
            return {}
        draws = step_generator(self.seed, self._step, FOR_QUERIES)
        count = similarity.images_per_step or self.num_unpaired or len(self._sr)
        # Unpaired crops come last in the batch: nothing else holds their structure.
        source, fake = self._source()[-count:], self._picture()[-count:]
        if self.similarity is not None:
            loss = self.similarity(source, fake, generator=draws)
        elif self.metric is not None and self._ramp(similarity.learned_warm_up_share):
            loss = self.metric(source, fake, generator=draws)
        else:
            return {}
        return {"self_similarity": similarity.interval * similarity.weight * loss}

    def _statistics_terms(self) -> dict[str, torch.Tensor]:
        config = self.config.statistics
        if not self._ramp(config.start_share):
            return {}
        real, fake, structure = self._real(), self._sr, self._structure
        if self._plain_hr is not None:
            real, fake = self._plain_hr, self._unpaired(self._sr)
            structure = None if structure is None else self._unpaired(structure)
        draws = step_generator(self.seed, self._step, FOR_STATISTICS)
        return statistics_terms(fake, real, config, structure=structure, generator=draws)

    # --- parts of the batch ---

    def _picture(self) -> torch.Tensor:
        """The output without its grain, where the generator gives it: what structure terms compare.

        Self-similarity would punish wanted grain more than a lost defect: a blob of 8 px erased
        from simulated HR crops costs 0.2 to 0.9 times what new grain costs.
        """
        return self._sr if self._structure is None else self._structure

    def _source(self) -> torch.Tensor:
        """The LR crops enlarged: the structure to keep."""
        return self.enlarge(self._lr).clamp(0, 1)

    def _known_pairs(self) -> PairBatch:
        if self._pairs is None:
            raise RuntimeError("a batch without pseudo-pairs")
        return self._pairs

    def _unpaired(self, batch: torch.Tensor) -> torch.Tensor:
        return batch[self.num_paired :]

    def _judged(self, adversary: Adversary) -> tuple[torch.Tensor, torch.Tensor]:
        """Real and generated crops of equal number for the discriminator."""
        return adversary.judged(self._real(), self._sr, self._structure)

    def _real(self) -> torch.Tensor:
        """HR crops of the step: those of the pairs, with what was planted there, or plain ones."""
        if self._pairs is not None:
            return self._pairs.hr
        if self._plain_hr is None:
            raise RuntimeError("a batch without HR crops")
        return self._plain_hr

    def _ramp(self, start_share: float, ramp_share: float = 0.0) -> float:
        steps = self.inputs.recipe.optimization.steps
        return ramp(self._step, steps=steps, start_share=start_share, ramp_share=ramp_share)


def _uses_statistics(config: StatisticsConfig) -> bool:
    return any(
        (
            config.spectral_weight,
            config.sliced_weight,
            config.histogram_weight,
            config.flat_grain_weight,
        )
    )
