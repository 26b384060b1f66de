"""F-LSeSim: unpaired translation of LR tiles to the HR look, held to the LR tile's structure.

A batch is part real LR crops, for which only unaligned HR crops exist, and part pseudo-pairs. Of
the generator's terms, `gan`, the statistics and the self-similarity need no pairs; the pixel terms
(`training.methods.paired_terms`) need the pseudo-pairs. The paper's own form is the recipe
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
from training.config import ConfigError
from training.discriminators import PatchDiscriminator
from training.features import load_vgg16
from training.image_pool import ImagePool
from training.images import SourceImage
from training.losses.consistency import downscale, lr_consistency
from training.losses.filters import gaussian_taps, separable_blur
from training.losses.gan import (
    lsgan_d,
    lsgan_g,
    relativistic_d,
    relativistic_g,
    zero_centred_penalty,
)
from training.losses.gradient_balance import GradientBalance
from training.losses.learned_correlation import LearnedCorrelation
from training.losses.spatial_correlation import SpatialCorrelation
from training.losses.statistics import (
    histogram_distance,
    log_psd_difference,
    sliced_wasserstein,
)
from training.method import Method, Phase, ramp, step_generator
from training.method_config import FLSeSimConfig, StatisticsConfig
from training.methods.inputs import (
    Inputs,
    domain_crops,
    first_crops,
    held_out_psnr,
    new_generator,
    pair_sampler,
    patched_copies,
    sample_picture,
)
from training.methods.paired_terms import forward_parts, has_parts, paired_terms
from training.methods.surrogate import SurrogatePhase
from training.noise import estimate_noise
from training.provenance import describe_training
from training.samplers import PlainSampler

# What the draws of one step are for; see `training.method.step_seed`.
FOR_QUERIES, FOR_STATISTICS, FOR_METRIC, FOR_POOL = range(4)


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
        scale = self.generator.scale
        if config.adversarial.reaches != "all" and not has_parts(self.generator):
            raise ConfigError(
                f"method.adversarial.reaches is {config.adversarial.reaches!r}, but the generator "
                f"{inputs.recipe.generator.name!r} does not give structure and grain apart"
            )
        self.enlarge = BicubicUpsample(scale=scale).to(device)
        self.discriminator = PatchDiscriminator(**config.adversarial.discriminator.model_dump()).to(
            device
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
                ).to(device)
        self.pool = ImagePool(
            generator=step_generator(self.seed, 0, FOR_POOL), capacity=config.adversarial.pool_size
        )
        self.balance = GradientBalance()
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

        hr, lr = with_copies(inputs.hr), with_copies(inputs.lr, scale)
        # The HR side of these crops is also what the discriminator takes for real: it then knows
        # planted structure as legitimate. Without pairs they are HR crops and nothing else.
        self.pairs = pair_sampler(
            inputs,
            scale=scale,
            batch_size=num_paired or options.batch_size,
            added=config.paired if num_paired else None,
            change=with_copies,
        )
        self.num_paired = num_paired
        self.num_unpaired = options.batch_size - num_paired
        self.lr = PlainSampler(
            lr, crop_px=options.crop_px, batch_size=self.num_unpaired, seed=self.seed
        )
        # Statistics compare like with like: crops of real LR images with plain HR crops, neither
        # chosen by contrast nor planted in.
        self.plain_hr = (
            PlainSampler(
                hr, crop_px=scale * options.crop_px, batch_size=self.num_unpaired, seed=self.seed
            )
            if self.num_unpaired and _uses_statistics(config.statistics)
            else None
        )
        self.surrogate = (
            SurrogatePhase(
                config.surrogate, steps=options.steps, device=device, betas=options.betas
            )
            if config.surrogate.is_used
            else None
        )
        self._measure = held_out_psnr(inputs, scale=scale)
        self._sample_crops = first_crops(inputs)
        self._step = 0
        self.phases = self._phases()

    def prepare(self, step: int) -> None:
        """Draw the batch and run the generator once; every phase uses that one output."""
        device = self.inputs.device
        self._step = step
        self._pairs = self.pairs.batch(step).to(device)
        parts = [self._pairs.lr] if self.num_paired else []
        parts += [self.lr.batch(step).to(device)] if self.num_unpaired else []
        self._lr = torch.cat(parts)
        self._sr, self._structure = forward_parts(self.generator, self._lr)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Discriminator, and the learned metric and the surrogate where there are any."""
        others = {"metric": self.metric, "surrogate": self.surrogate and self.surrogate.detector}
        return {
            "discriminator": self.discriminator,
            **{name: module for name, module in others.items() if module is not None},
        }

    def extra_state(self) -> dict[str, Any]:
        """Return the pool of old fakes and the running balance."""
        return {"pool": self.pool.state_dict(), "balance": self.balance.state_dict()}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take pool and balance back."""
        self.pool.load_state_dict(state["pool"], device=self.inputs.device)
        self.balance.load_state_dict(state["balance"])

    def describe(self) -> dict[str, Any]:
        """Describe the run; the LR statistics are those of real LR crops."""
        return describe_training(
            self.inputs.recipe,
            hr_images=self.inputs.hr,
            lr_images=self.inputs.lr,
            held_out=self.inputs.held_out,
            tools=self.inputs.tools if self.num_paired else (),
            lr_crops=domain_crops(self.inputs),
        )

    def validate(self, average: Generator) -> dict[str, float]:
        """PSNR on the held-out tiles, where the recipe has any."""
        return self._measure(average)

    def sample(self, average: Generator) -> NDArray[np.uint8]:
        """Bicubic and SR of the same real LR crops each time."""
        return sample_picture(average, self._sample_crops)

    # --- phases ---

    def _phases(self) -> tuple[Phase, ...]:
        options, adversarial = self.inputs.recipe.optimization, self.config.adversarial
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
        if adversarial.weight:
            phases.append(
                Phase(
                    name="discriminator",
                    optimizer=adam(self.discriminator, adversarial.learning_rate),
                    learning_rate=adversarial.learning_rate,
                    terms=self._discriminator_terms,
                )
            )
        if self.surrogate is not None:
            surrogate = self.surrogate
            phases.append(surrogate.phase(lambda: self._pairs))
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
        others = self._pairs.hr
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
        adversarial = self.config.adversarial
        if not self._ramp(adversarial.start_share):
            return {}
        real, fake = self._judged()
        fake = self.pool.exchange(fake.detach())
        penalised = adversarial.penalty_gamma > 0 and self._step % adversarial.penalty_interval == 0
        if penalised:
            real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
        on_real, on_fake = self.discriminator(real), self.discriminator(fake)
        if adversarial.loss == "lsgan":
            terms = {"discriminator": lsgan_d(on_real.float(), on_fake.float())}
        else:
            terms = {"discriminator": relativistic_d(on_real.float(), on_fake.float())}
        if penalised:
            penalty = zero_centred_penalty(on_real, real) + zero_centred_penalty(on_fake, fake)
            # Lazily computed, so weighted by the interval.
            factor = 0.5 * adversarial.penalty_gamma * adversarial.penalty_interval
            terms["penalty"] = factor * penalty
        return terms

    def _generator_terms(self) -> Mapping[str, torch.Tensor]:
        terms: dict[str, torch.Tensor] = {}
        if self.num_paired:
            num = self.num_paired
            structure = None if self._structure is None else self._structure[:num]
            terms |= paired_terms(
                self._sr[:num], structure, self._pairs.hr, self._pairs.mask, self.config.paired
            )
        terms |= self._similarity_term()
        terms |= self._consistency_terms()
        terms |= self._adversarial_term(terms)
        terms |= self._statistics_terms()
        if self.surrogate is not None:
            terms |= self.surrogate.terms(
                self._step, self._pairs, self._sr[: self.num_paired], self._unpaired(self._sr)
            )
        return terms

    def _adversarial_term(self, structural: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        adversarial = self.config.adversarial
        weight = adversarial.weight * self._ramp(adversarial.start_share, adversarial.ramp_share)
        if not weight:
            return {}
        real, fake = self._judged()
        # Its own weights need no gradient here; what the last phase left is thrown away anyway.
        self.discriminator.requires_grad_(requires_grad=False)
        on_fake = self.discriminator(fake).float()
        if adversarial.loss == "lsgan":
            loss = lsgan_g(on_fake)
        else:
            with torch.no_grad():
                on_real = self.discriminator(real).float()
            loss = relativistic_g(on_real, on_fake)
        self.discriminator.requires_grad_(requires_grad=True)
        if adversarial.balanced:
            # All of these reach the picture's structure; not all of them its grain.
            total = sum(structural.values(), loss * 0)
            weight *= self.balance.update(total, loss, self._picture())
        return {"gan": weight * loss}

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

    def _consistency_terms(self) -> dict[str, torch.Tensor]:
        config = self.config.consistency
        if not (config.weight or config.worst_weight):
            return {}
        coarse, lr = downscale(self._picture(), kernel=None, scale=self.generator.scale), self._lr
        if config.low_pass_px:
            # An output that had to correlate with the noise of its input would copy it.
            taps = gaussian_taps(config.low_pass_px).to(lr.device)
            coarse, lr = separable_blur(coarse, taps), separable_blur(lr, taps)
        loss = lr_consistency(
            coarse, lr, kernel=None, scale=1, worst_share=config.worst_share, eps=config.eps
        )
        return {
            "consistency": config.weight * loss.mean,
            "consistency_worst": config.worst_weight * loss.worst,
        }

    def _statistics_terms(self) -> dict[str, torch.Tensor]:
        config = self.config.statistics
        if not self._ramp(config.start_share):
            return {}
        draws = step_generator(self.seed, self._step, FOR_STATISTICS)
        real, fake = self._pairs.hr, self._sr
        if self.plain_hr is not None:
            real = self.plain_hr.batch(self._step).to(self.inputs.device)
            fake = self._unpaired(self._sr)
        terms = {}
        if config.spectral_weight:
            distance = log_psd_difference(fake, real, generator=draws)
            terms["spectrum"] = config.spectral_weight * distance
        if config.sliced_weight:
            distance = sliced_wasserstein(fake, real, generator=draws)
            terms["sliced"] = config.sliced_weight * distance
        if config.histogram_weight:
            distance = histogram_distance(fake, real, generator=draws)
            terms["histogram"] = config.histogram_weight * distance
        return terms

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

    def _unpaired(self, batch: torch.Tensor) -> torch.Tensor:
        return batch[self.num_paired :]

    def _judged(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Real and generated crops of equal number for the discriminator.

        It always judges the whole picture: structure without grain is no HR image, and would be
        known by that alone. What its gradient may change is the recipe's to say. "grain" cannot
        invent or erase structure, and learns how much grain looks right; "structure" leaves the
        grain to the energy and statistics terms, and learns what edges look like.
        """
        adversarial = self.config.adversarial
        sr, structure = self._sr, self._structure
        if structure is not None and adversarial.reaches == "grain":
            sr = sr - structure + structure.detach()
        elif structure is not None and adversarial.reaches == "structure":
            sr = structure + (sr - structure).detach()
        limit = adversarial.images_per_step or len(sr)
        count = min(limit, len(sr), len(self._pairs.hr))
        return self._pairs.hr[:count], sr[-count:]

    def _ramp(self, start_share: float, ramp_share: float = 0.0) -> float:
        steps = self.inputs.recipe.optimization.steps
        return ramp(self._step, steps=steps, start_share=start_share, ramp_share=ramp_share)


def _uses_statistics(config: StatisticsConfig) -> bool:
    return bool(config.spectral_weight or config.sliced_weight or config.histogram_weight)
