"""MASA-SR: training on given pairs with a reference for each, first by pixels, then adversarially.

It is for comparison: the network can be neither exported nor served. Two things differ from the
paper. Features are those of VGG16, as the weights of VGG19 are not at hand. The adversarial loss is
the relativistic average one, which the paper and the thesis name; the published training script
chooses a WGAN with gradient penalty by default.

Source: Lu et al. 2021, "MASA-SR: Matching Acceleration and Spatial Adaptation for Reference-Based
Image Super-Resolution", section 3.5; SEM images and references as in the thesis of S. Chakraborty
(2022), chapter 3.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models import ReferenceNetwork
from training.config.masa import PERCEPTUAL_TAP, MasaConfig
from training.config.recipe import ConfigError
from training.data.referenced_sampler import ReferencedSampler
from training.ground.baselines import bicubic
from training.losses.features import load_vgg16
from training.losses.relativistic_average import relativistic_average_d, relativistic_average_g
from training.losses.shift import margin_of, shift_images, without_margin
from training.methods.inputs import Inputs, domain_crops, new_network
from training.methods.method import Method, Phase, adam_phase, ramp
from training.methods.parts.crop_discriminator import CropDiscriminator
from training.methods.parts.frozen import frozen
from training.methods.parts.held_out_pairs import Grey, mean_psnr
from training.methods.parts.referenced import upscale_with
from training.methods.pictures import GAP_PX, NUM_SAMPLES


class MasaMethod(Method[ReferenceNetwork]):
    """Pixel loss; in the second stage also features and a discriminator of whole crops."""

    def __init__(self, inputs: Inputs, config: MasaConfig) -> None:
        options = inputs.recipe.optimization
        self.inputs = inputs
        self.config = config
        network = new_network(inputs)
        if not isinstance(network, ReferenceNetwork):
            raise ConfigError(
                f"the method 'masa' trains a network that takes a reference; "
                f"{inputs.recipe.generator.name!r} takes the LR image alone"
            )
        self.generator: ReferenceNetwork = network
        self.discriminator: CropDiscriminator | None = None
        if config.adversarial_weight:
            self.discriminator = CropDiscriminator(
                side_px=network.scale * options.crop_px,
                width=config.discriminator.width,
                num_layers=config.discriminator.num_layers,
                hidden=config.discriminator.hidden,
            ).to(inputs.device)
        self.features = (
            load_vgg16(inputs.vgg16, taps=(PERCEPTUAL_TAP,)).to(inputs.device)
            if config.perceptual_weight
            else None
        )
        sampler = ReferencedSampler(
            inputs.pairs,
            scale=network.scale,
            crop_px=options.crop_px,
            batch_size=options.batch_size,
            seed=options.seed,
            turns=config.turns,
            reference=config.reference,
            reference_px=config.reference_px,
            reference_turns=config.reference_turns,
            gain=config.reference_gain,
            offset_grey=config.reference_offset_grey,
        )
        self.sampler = inputs.feed.add("referenced", sampler)
        both = (*inputs.pairs, *inputs.held_out_pairs)
        largest = max(max(abs(pair.dy), abs(pair.dx)) for pair in both)
        self.margin_px = margin_of(largest, tolerance_px=0)
        if network.scale * options.crop_px <= 2 * self.margin_px:
            raise ConfigError(
                f"pairs are shifted by up to {largest:.1f} px, which leaves nothing of a crop of "
                f"{network.scale * options.crop_px} px; expected larger crops or aligned pairs"
            )
        self._step = 0
        self.phases = self._phases()

    def prepare(self, step: int) -> None:
        """Draw the batch and run the network once; both phases use that one output."""
        self._step = step
        self._batch = self.sampler.batch(step).to(self.inputs.device)
        self._sr = self.generator(self._batch.lr, self._batch.reference)
        # What registration measured is put into the output: HR images are never interpolated. The
        # discriminator sees the output as it is, since it compares looks and not places.
        self._laid_on_hr = shift_images(self._sr, self._batch.shift)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the discriminator, with the running statistics of its batch norm."""
        return {} if self.discriminator is None else {"discriminator": self.discriminator}

    def describe(self) -> dict[str, Any]:
        """Describe the run; the LR statistics are those of the pairs' LR images."""
        inputs = self.inputs
        return inputs.describe(domain_crops(inputs), lr_images=inputs.lr, tools=())

    def validate(self, average: ReferenceNetwork) -> dict[str, float]:
        """Measure PSNR on the held-out pairs; empty where there are none.

        The reference is the kind trained with: a pair's own HR image, or the HR image of a training
        pair, the k-th one for the k-th held-out pair.
        """
        return mean_psnr(self._held_out(average))

    def _held_out(self, average: ReferenceNetwork) -> Iterator[tuple[Grey, Grey]]:
        """Return outputs of the held-out pairs, laid on HR, with HR."""
        for number, pair in enumerate(self.inputs.held_out_pairs):
            hr = pair.hr.pixels
            others = self.inputs.pairs
            is_own = self.config.reference == "own"
            reference = hr if is_own else others[number % len(others)].hr.pixels
            sr = torch.from_numpy(upscale_with(average, pair.lr.pixels, reference)).float()
            laid_on_hr = shift_images(sr[None, None], torch.tensor([[pair.dy, pair.dx]]))
            yield (
                without_margin(laid_on_hr, self.margin_px)[0, 0].numpy(),
                without_margin(torch.from_numpy(hr)[None, None], self.margin_px)[0, 0].numpy(),
            )

    def sample(self, average: ReferenceNetwork) -> NDArray[np.uint8]:
        """Show bicubic, SR, HR and the reference, cut to their size, of the crops of step 0."""
        batch = self.sampler.batch(0)
        rows = []
        for number in range(min(NUM_SAMPLES, len(batch.lr))):
            lr, hr, reference = (
                (255.0 * part[number, 0]).round().byte().cpu().numpy()
                for part in (batch.lr, batch.hr, batch.reference)
            )
            enlarged = np.rint(bicubic(lr, scale=average.scale)).astype(np.uint8)
            shown = np.full_like(hr, 255)
            height, width = (
                min(ours, theirs) for ours, theirs in zip(hr.shape, reference.shape, strict=True)
            )
            shown[:height, :width] = reference[:height, :width]
            pictures = [enlarged, upscale_with(average, lr, reference), hr, shown]
            rows.append(np.concatenate([_with_gap(picture) for picture in pictures], axis=1))
        return np.concatenate(rows)[:-GAP_PX, :-GAP_PX]

    # --- phases ---

    def _phases(self) -> tuple[Phase, ...]:
        options, config = self.inputs.recipe.optimization, self.config
        phases: list[Phase] = []
        if self.discriminator is not None:
            phases.append(
                adam_phase(
                    "discriminator",
                    self.discriminator.parameters(),
                    learning_rate=config.discriminator.learning_rate,
                    betas=config.discriminator.betas,
                    terms=self._discriminator_terms,
                )
            )
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

    def _is_second_stage(self) -> bool:
        steps = self.inputs.recipe.optimization.steps
        return bool(ramp(self._step, steps=steps, start_share=self.config.second_stage_start_share))

    def _discriminator_terms(self) -> Mapping[str, torch.Tensor]:
        if self.discriminator is None or not self._is_second_stage():
            return {}
        on_real = self.discriminator(self._batch.hr).float()
        on_fake = self.discriminator(self._sr.detach()).float()
        return {"discriminator": relativistic_average_d(on_real, on_fake)}

    def _generator_terms(self) -> Mapping[str, torch.Tensor]:
        config, hr = self.config, self._batch.hr
        inner, target = (without_margin(x, self.margin_px) for x in (self._laid_on_hr, hr))
        terms = {"pixel": config.pixel_weight * functional.l1_loss(inner, target)}
        if not self._is_second_stage():
            return terms
        if self.features is not None:
            with torch.no_grad():
                wanted = self.features(hr)[PERCEPTUAL_TAP]
            difference = functional.l1_loss(self.features(self._laid_on_hr)[PERCEPTUAL_TAP], wanted)
            terms["perceptual"] = config.perceptual_weight * difference
        if self.discriminator is not None:
            with frozen(self.discriminator):
                on_fake = self.discriminator(self._sr).float()
            with torch.no_grad():
                on_real = self.discriminator(hr).float()
            terms["gan"] = config.adversarial_weight * relativistic_average_g(on_real, on_fake)
        return terms


def _with_gap(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(picture, ((0, GAP_PX), (0, GAP_PX)), constant_values=255)
