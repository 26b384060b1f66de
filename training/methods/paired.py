"""Super-resolution from given pairs: LR and HR scans of the same places.

Pairs settle what unpaired training must guess: position, sign and tone of every structure. One
network learns all looks of a folder, also an odd one with inverted contrast, because its LR image
shows which look is wanted; unpaired losses accept the wrong one.

First stage: Charbonnier loss of the structure, tolerant to what pairs do not determine (shifts of a
pixel, drift of gain and offset, see `losses.shift`), the tone of coarse means, and the local energy
of the grain. Second stage: a discriminator of (enlarged LR, image), which can only judge sharpness
and noise, since the scene and its look are given; optionally features of VGG16 and FSeSim.

Source: Chakraborty 2022, appendix B.3; conditional discriminator of Isola et al. 2017, eq. 1.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models import Generator
from models.blocks import BicubicUpsample
from models.grain_head import GrainGenerator
from training.config.paired import FEATURE_TAP, PairedSRConfig
from training.config.recipe import ConfigError
from training.losses.features import load_vgg16
from training.losses.pixel import charbonnier
from training.losses.shift import (
    AlignedPairs,
    align_pairs,
    margin_of,
    shift_images,
    without_margin,
)
from training.losses.texture import flatness, local_energy
from training.methods.inputs import Inputs, aligned_sampler, domain_crops, new_generator
from training.methods.method import Method, Phase, adam_phase, ramp
from training.methods.parts.adversary import Adversary
from training.methods.parts.grain import bound_grain, forward_parts
from training.methods.parts.held_out_pairs import pair_quality
from training.methods.parts.similarity import Similarity
from training.methods.pictures import sample_picture

TONE_PX = 8
"""Side of the means of the tone term, HR px: coarse enough for noise and shifts to cancel."""

MIN_WINDOW_PX = 16
"""Smallest side of what is left of a crop without the margin of its shifts, HR px."""


class PairedSR(Method[Generator]):
    """Training of a generator on aligned crops of given pairs."""

    def __init__(self, inputs: Inputs, config: PairedSRConfig) -> None:
        options, device = inputs.recipe.optimization, inputs.device
        _check_recipe(inputs)
        self.inputs = inputs
        self.config = config
        self.generator = new_generator(inputs)
        scale = self.generator.scale
        if isinstance(self.generator, GrainGenerator):
            hr = [pair.hr for pair in inputs.pairs]
            bound_grain(self.generator, hr, is_trained=inputs.start is not None)
        elif config.adversarial.reaches != "all":
            raise ConfigError(
                f"method.adversarial.reaches is {config.adversarial.reaches!r}, but the generator "
                f"{inputs.recipe.generator.name!r} does not give structure and grain apart"
            )
        largest = max(max(abs(pair.dy), abs(pair.dx)) for pair in inputs.pairs)
        self.margin_px = margin_of(largest, tolerance_px=config.tolerance_px)
        if scale * options.crop_px - 2 * self.margin_px < MIN_WINDOW_PX:
            raise ConfigError(
                f"pairs are shifted by up to {largest:.1f} px, which leaves less than "
                f"{MIN_WINDOW_PX} px of crops of {scale * options.crop_px} px; expected larger "
                "crops (optimization.crop_px) or aligned pairs"
            )
        self.enlarge = BicubicUpsample(scale=scale).to(device)
        # In the order in which their weights are drawn from the global seed.
        self.adversary: Adversary | None = None
        if config.adversarial.weight:
            self.adversary = Adversary(config.adversarial, options, device, in_channels=2)
        self.similarity: Similarity | None = None
        if config.self_similarity.weight:
            self.similarity = Similarity(
                config.self_similarity, options, device, vgg16=inputs.vgg16
            )
        self.features: torch.nn.Module | None = None
        if config.features_weight:
            self.features = load_vgg16(inputs.vgg16, taps=(FEATURE_TAP,)).to(device)
        self.sampler = aligned_sampler(inputs, scale=scale, turns=config.turns)
        self._measure = pair_quality(inputs.held_out_pairs, scale=scale)
        self._step = 0
        self.phases = self._phases()

    def prepare(self, step: int) -> None:
        """Draw the crops, run the generator once, and lay its structure on the HR crops."""
        batch = self.sampler.batch(step).to(self.inputs.device)
        self._step = step
        self._hr = batch.hr
        self._source = self.enlarge(batch.lr).clamp(0, 1)
        self._shift = batch.shift
        self._sr, self._structure = forward_parts(self.generator, batch.lr)
        self._aligned: AlignedPairs = align_pairs(
            self._picture(),
            batch.hr,
            batch.shift,
            margin_px=self.margin_px,
            tolerance_px=self.config.tolerance_px,
            gain_limit=self.config.gain_limit,
            eps=self.config.charbonnier_eps,
        )

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the discriminator, where the recipe uses one."""
        return {} if self.adversary is None else {"discriminator": self.adversary.discriminator}

    def extra_state(self) -> dict[str, Any]:
        """Return the adversary's state, where there is one."""
        return {} if self.adversary is None else self.adversary.state()

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the adversary's state."""
        if self.adversary is not None:
            self.adversary.load_state(state)

    def describe(self) -> dict[str, Any]:
        """Describe the run, and how many pairs it was given and held out."""
        inputs = self.inputs
        described = inputs.describe(domain_crops(inputs), lr_images=inputs.lr, tools=())
        held_out = sorted(pair.lr.name for pair in inputs.held_out_pairs)
        data = {**described["data"], "pairs": len(inputs.pairs), "held_out_pairs": held_out}
        return {**described, "data": data}

    def validate(self, average: Generator) -> dict[str, float]:
        """Measure PSNR and SSIM on the held-out pairs; see `parts.held_out_pairs`."""
        return self._measure(average)

    def sample(self, average: Generator) -> NDArray[np.uint8]:
        """Show bicubic, SR and HR of the first crops of step 0."""
        batch = self.sampler.batch(0)
        return sample_picture(average, batch.lr, references=batch.hr)

    # --- phases ---

    def _phases(self) -> tuple[Phase, ...]:
        options = self.inputs.recipe.optimization
        phases: list[Phase] = []
        if self.adversary is not None:
            phases.append(self.adversary.phase(self._discriminator_terms))
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

    def _discriminator_terms(self) -> Mapping[str, torch.Tensor]:
        if self.adversary is None:
            return {}
        return self.adversary.own_terms(self._step, *self._judged(self.adversary))

    def _generator_terms(self) -> Mapping[str, torch.Tensor]:
        config, aligned = self.config, self._aligned
        distance = charbonnier(aligned.fitted, aligned.hr, eps=config.charbonnier_eps)
        terms = {"pixel": config.pixel_weight * distance}
        if config.tone_weight:
            coarse, target = (functional.avg_pool2d(x, TONE_PX) for x in (aligned.sr, aligned.hr))
            tone = charbonnier(coarse, target, eps=config.charbonnier_eps)
            terms["tone"] = config.tone_weight * tone
        share = self._ramp()
        if share:
            terms |= self._look_terms(share)
            if self.adversary is not None:
                real, fake = self._judged(self.adversary)
                # All terms so far reach the structure, where the balance is measured.
                terms |= self.adversary.term(
                    self._step, real, fake, structural=dict(terms), picture=self._picture()
                )
        if self._structure is not None and config.energy_weight:
            # Grain cannot replace missing sharpness, and sharpness cannot replace missing grain.
            textured = self._sr - self._structure + self._structure.detach()
            flat = flatness(aligned.hr, half_gradient=config.energy_half_gradient)
            terms["energy"] = config.energy_weight * local_energy(
                without_margin(textured, self.margin_px), aligned.hr, weight=flat
            )
        return terms

    def _look_terms(self, share: float) -> dict[str, torch.Tensor]:
        """Return the terms of the second stage but the adversarial one.

        They compare the structure: grain is random, and features would have it removed.
        """
        terms: dict[str, torch.Tensor] = {}
        aligned = self._aligned
        if self.features is not None:
            seen, wanted = (self.features(x)[FEATURE_TAP] for x in (aligned.fitted, aligned.hr))
            difference = (seen.float() - wanted.detach().float()).abs().mean()
            terms["features"] = share * self.config.features_weight * difference
        if self.similarity is not None:
            count = self.config.self_similarity.images_per_step or len(self._source)
            found = self.similarity.term(
                self._step, self._source[-count:], self._picture()[-count:]
            )
            terms |= {name: share * term for name, term in found.items()}
        return terms

    def _ramp(self) -> float:
        """Return the factor of the second stage, 0 in the first."""
        config = self.config.adversarial
        return ramp(
            self._step,
            steps=self.inputs.recipe.optimization.steps,
            start_share=config.start_share,
            ramp_share=config.ramp_share,
        )

    # --- parts of the batch ---

    def _picture(self) -> torch.Tensor:
        """Return the image for the structure terms: the output, without grain if it is separate."""
        return self._sr if self._structure is None else self._structure

    def _judged(self, adversary: Adversary) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pairs (enlarged LR, image) for the discriminator, (N, 2, h, w): real, generated.

        Neither image is interpolated, which would show. The enlarged LR image of the real pair is
        shifted instead, so that in both pairs the two channels lie on each other: the shift must
        not tell them apart.
        """
        source = without_margin(self._source, self.margin_px)
        moved = without_margin(shift_images(self._source, self._shift), self.margin_px)
        real = torch.cat([moved, self._aligned.hr], 1)
        fake = torch.cat([source, without_margin(self._sr.float(), self.margin_px)], 1)
        structure = None
        if self._structure is not None:
            inner = without_margin(self._structure.float(), self.margin_px)
            structure = torch.cat([source, inner], 1)
        return adversary.judged(real, fake, structure)


def _check_recipe(inputs: Inputs) -> None:
    """Reject what this method would ignore, since the checkpoint would name it as used.

    Raises:
        ConfigError: The recipe names images other than pairs, or there are no pairs.
    """
    recipe = inputs.recipe
    if not inputs.pairs:
        raise ConfigError("the method 'paired' trains on data.pairs, but there are no pairs")
    ignored = {
        "data.hr": recipe.data.hr,
        "data.lr": recipe.data.lr,
        "tools": recipe.tools,
        'degradation = "estimate"': recipe.degradation == "estimate",
    }
    given = [name for name, value in ignored.items() if value]
    if given:
        raise ConfigError(
            f"the method 'paired' trains on data.pairs alone; expected no {', no '.join(given)}"
        )
