"""LIR: unpaired translation through content codes that both domains share.

Two variants. "denoise" is the published one: X are the enlarged LR images, whose noise HR lacks,
and E_X with G_Y makes HR. "style" is the thesis's: X are the HR images, whose style LR lacks, and
E_Y with G_X makes HR, in the style of a reference. The generator (`models.lir`) holds the networks
of that path only; the trainer averages and saves it. The other encoders and decoders exist for the
training and for a resumed run.

A step trains the discriminator of the codes (several steps on one batch), then those of the images,
then encoders and decoders. All of them use one set of passes, which `prepare` runs. The published
code draws other code noise for the discriminators; that costs a second decoding by G_X, half of all
arithmetic, and the draws of the next step are new in any case.

Source: Du, Chen and Yang 2020 and its code; Chakraborty 2022 (thesis), section 3.4. Own code.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from models import Generator, Network
from models.blocks import BicubicUpsample
from models.lir import Lir, LirStyle
from models.lir_parts import CODE_STRIDE
from training.config.lir import SEMANTIC_TAP, LirConfig
from training.config.recipe import ConfigError
from training.data.feed import Fed
from training.data.plain_samplers import PlainSampler
from training.losses.features import load_vgg16
from training.losses.lir import (
    background_consistency,
    code_energy,
    content_d,
    content_g,
    multi_reference,
    scales_d,
    scales_g,
    semantic_consistency,
)
from training.methods.inputs import (
    PLAIN_HR_SEED,
    Inputs,
    domain_crops,
    held_out_psnr,
    new_network,
    plain_sampler,
)
from training.methods.method import Method, Phase, adam_phase, step_generator
from training.methods.parts.fixed_reference import FixedReference, mean_copy_score
from training.methods.parts.frozen import frozen
from training.methods.parts.lir_discriminators import (
    ContentDiscriminator,
    ScalesDiscriminator,
)
from training.methods.parts.lir_networks import complete
from training.methods.parts.lir_passes import LirPasses, other_references, run_passes
from training.methods.pictures import sample_picture

MARGIN_PX = 2
"""LR pixels around a crop that its enlargement looks at: drawn with the crop, and cut off after."""

FOR_CODES = 4
"""Purpose of the draws of code noise; see `methods.method.step_seed`."""

LOOK_CROPS, LOOK_CROP_PX = 8, 64
"""Number of LR crops for pictures and the copy score, and their side at most, LR px: larger than
the crops of a step."""


class LirMethod(Method[Network]):
    """Two auto-encoders, three discriminators, and the terms that tie the domains together."""

    def __init__(self, inputs: Inputs, config: LirConfig) -> None:
        options, device = inputs.recipe.optimization, inputs.device
        self.inputs = inputs
        self.config = config
        self.seed = options.seed
        self.generator = new_network(inputs)
        self.networks, self.helpers = complete(self.generator, config.variant)
        self.helpers.to(device)
        self.enlarge = BicubicUpsample(scale=self.generator.scale).to(device)
        width = int(self.generator.hyper_parameters["width"])
        images = config.discriminator
        sizes = {"width": images.width, "num_scales": images.num_scales}
        self.of_x = ScalesDiscriminator(**sizes).to(device)
        self.of_y = ScalesDiscriminator(**sizes).to(device)
        self.of_codes = ContentDiscriminator(channels=4 * width).to(device)
        self._check_sizes()
        self.features = (
            load_vgg16(inputs.vgg16, taps=(SEMANTIC_TAP,)).to(device)
            if config.semantic_weight
            else None
        )
        self.lr, self.hr = self._samplers()
        self._measure = held_out_psnr(inputs, scale=self.generator.scale)
        self._looks = self._look_crops()
        self.phases = self._phases()

    def _check_sizes(self) -> None:
        options, scale = self.inputs.recipe.optimization, self.generator.scale
        least_px = max(self.of_x.min_side_px, CODE_STRIDE * self.of_codes.min_side)
        if scale * options.crop_px < least_px:
            raise ConfigError(
                f"optimization.crop_px is {options.crop_px}, {scale * options.crop_px} HR px, "
                f"expected at least {-(-least_px // scale)} for these discriminators"
            )
        needed = self.config.num_references if self.config.multi_reference_weight else 1
        if options.batch_size < needed:
            raise ConfigError(
                f"optimization.batch_size is {options.batch_size}, expected at least {needed}, "
                "method.num_references"
            )
        if self.config.reference >= len(self.inputs.hr):
            raise ConfigError(
                f"method.reference is {self.config.reference}, expected less than "
                f"{len(self.inputs.hr)}, the number of training HR images"
            )
        # Not pooled, a style has a place for each place of the output.
        is_map = self.generator.hyper_parameters.get("style_pool") == "none"
        reference = self._reference
        for tile in self.inputs.held_out if is_map else ():
            if min(np.subtract(reference.shape, tile.pixels.shape)) < 0:
                raise ConfigError(
                    f"held-out tile {tile.name} has shape {tile.pixels.shape}, expected at most "
                    f"{reference.shape}, that of the reference, unless style_pool is 'mean'"
                )

    def _samplers(self) -> tuple[Fed[torch.Tensor], Fed[torch.Tensor]]:
        """Make the samplers of LR crops with their margin, and of HR crops."""
        inputs, options = self.inputs, self.inputs.recipe.optimization
        same: dict[str, Any] = {"batch_size": options.batch_size, "flips": self.config.flips}
        lr = plain_sampler(
            inputs,
            "lr",
            [tool.lr for tool in inputs.seen_tools],
            crop_px=options.crop_px + 2 * MARGIN_PX,
            seed=self.seed,
            **same,
        )
        hr = plain_sampler(
            inputs,
            "hr",
            [tool.hr for tool in inputs.seen_tools],
            crop_px=self.generator.scale * options.crop_px,
            seed=self.seed + PLAIN_HR_SEED,
            **same,
        )
        return lr, hr

    def prepare(self, step: int) -> None:
        """Draw the crops of both domains and run all passes; every phase uses them."""
        device, margin = self.inputs.device, MARGIN_PX * self.generator.scale
        enlarged = self.enlarge(self.lr.batch(step).to(device)).clamp(0.0, 1.0)
        u = enlarged[:, :, margin:-margin, margin:-margin]
        hr = self.hr.batch(step).to(device)
        self._x, self._y = (u, hr) if self.config.variant == "denoise" else (hr, u)
        self._passes: LirPasses = run_passes(
            self.networks,
            self._x,
            self._y,
            noise_std=self.config.code_noise,
            generator=step_generator(self.seed, step, FOR_CODES),
        )

    def modules(self) -> dict[str, nn.Module]:
        """Return the networks that are not on the inference path, and the discriminators."""
        return {
            "helpers": self.helpers,
            "discriminator_x": self.of_x,
            "discriminator_y": self.of_y,
            "content_discriminator": self.of_codes,
        }

    def describe(self) -> dict[str, Any]:
        """Describe the run; the LR statistics are those of real LR crops."""
        inputs = self.inputs
        return inputs.describe(domain_crops(inputs), lr_images=inputs.lr, tools=())

    def validate(self, average: Network) -> dict[str, float]:
        """Measure PSNR on held-out tiles, and with a reference the copy score on training LR crops.

        `copy_score` is the correlation of outputs with the reference minus that with their inputs:
        above 0, the outputs are copies of the reference.
        """
        looked_at = self._looked_at(average)
        figures = self._measure(looked_at)
        if isinstance(looked_at, FixedReference):
            figures["copy_score"] = mean_copy_score(looked_at, self._looks)
        return figures

    def sample(self, average: Network) -> NDArray[np.uint8]:
        """Show bicubic and SR of the same real LR crops each time."""
        crops = torch.from_numpy(self._looks)[:, None].float() / 255.0
        return sample_picture(self._looked_at(average), crops)

    def _look_crops(self) -> NDArray[np.uint8]:
        """Return the LR crops of pictures and copy score, (N, c, c), always the same."""
        sides = [min(image.pixels.shape) for image in self.inputs.lr]
        if self.config.variant == "style":
            sides.append(min(self._reference.shape) // self.generator.scale)
        sampler = PlainSampler(
            self.inputs.lr,
            crop_px=min(LOOK_CROP_PX, *sides),
            batch_size=LOOK_CROPS,
            seed=self.seed,
            flips="none",
        )
        return sampler.make(0)

    @property
    def _reference(self) -> NDArray[np.uint8]:
        return self.inputs.hr[self.config.reference].pixels

    def _looked_at(self, average: Network) -> Generator:
        if isinstance(average, LirStyle):
            return FixedReference(average, self._reference)
        if not isinstance(average, Lir):
            raise TypeError(f"average is a {type(average).__name__}, expected Lir or LirStyle")
        return average

    # --- phases ---

    def _phases(self) -> tuple[Phase, ...]:
        options, of = self.inputs.recipe.optimization, self.config.discriminator
        both: dict[str, Any] = {"betas": options.betas, "weight_decay": self.config.weight_decay}
        return (
            adam_phase(
                "content_discriminator",
                self.of_codes.parameters(),
                learning_rate=of.content_learning_rate,
                terms=self._content_terms,
                repeats=of.content_steps,
                gradient_clip=of.content_gradient_clip,
                **both,
            ),
            adam_phase(
                "discriminator",
                [*self.of_x.parameters(), *self.of_y.parameters()],
                learning_rate=of.learning_rate,
                terms=self._discriminator_terms,
                **both,
            ),
            adam_phase(
                "generator",
                [*self.generator.parameters(), *self.helpers.parameters()],
                learning_rate=options.learning_rate,
                terms=self._generator_terms,
                **both,
            ),
        )

    def _content_terms(self) -> Mapping[str, torch.Tensor]:
        passes, judge = self._passes, self.of_codes
        x, y = judge(passes.x_content.detach()), judge(passes.y_content.detach())
        return {"content_discriminator": content_d(x, y)}

    def _discriminator_terms(self) -> Mapping[str, torch.Tensor]:
        passes = self._passes
        on_x = scales_d(self.of_x(self._x), self.of_x(passes.x_made.detach()))
        on_y = scales_d(self.of_y(self._y), self.of_y(passes.y_made.detach()))
        return {"discriminator": on_x + on_y}

    def _generator_terms(self) -> Mapping[str, torch.Tensor]:
        config, passes, x, y = self.config, self._passes, self._x, self._y
        # The published code steps the content discriminator here as well, on the encoders' own
        # objective, so that it helps them: an error that freezing prevents.
        with frozen(self.of_x, self.of_y, self.of_codes):
            gan = scales_g(self.of_x(passes.x_made)) + scales_g(self.of_y(passes.y_made))
            content = content_g(self.of_codes(passes.x_content), self.of_codes(passes.y_content))
        l1 = functional.l1_loss
        terms = {
            "gan": config.adversarial_weight * gan,
            "content": config.content_weight * content,
            "self": config.self_weight * (l1(passes.x_again, x) + l1(passes.y_again, y)),
            "cycle": config.cycle_weight * (l1(passes.x_cycle, x) + l1(passes.y_cycle, y)),
            "code": config.code_weight * code_energy(passes.codes),
        }
        translations = ((passes.x_made, y), (passes.y_made, x))
        if config.background_weight:
            background = [background_consistency(made, source) for made, source in translations]
            terms["background"] = config.background_weight * torch.stack(background).sum()
        if self.features is not None:
            semantic = [
                semantic_consistency(*self.features(torch.cat(pair))[SEMANTIC_TAP].chunk(2))
                for pair in translations
            ]
            terms["semantic"] = config.semantic_weight * torch.stack(semantic).sum()
        if config.multi_reference_weight:
            others = other_references(self.networks, passes, count=config.num_references - 1)
            difference = multi_reference([passes.x_made, *others])
            terms["multi_reference"] = config.multi_reference_weight * difference
        return terms
