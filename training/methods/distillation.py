"""Distillation: a student generator learns the structure and the grain of its teachers.

The targets are the teachers' mean structure and their mean grain amplitude. Errors that differ from
teacher to teacher average out. Where the teachers' structures disagree, the structure loss has a
smaller weight. The student learns the amplitude of the grain, not its pixels: all generators derive
their noise from the input image, so equal amplitudes and colours give equal grain. Where a head
mixes several noise colours, the amplitudes of the first teacher alone are the target.

Source: output distillation of Hinton et al. 2015; for super-resolution Gao et al. 2018; the mean of
several as in You et al. 2017.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Generator, load_generator
from models.grain_head import GrainGenerator
from training.config.method import DistillationConfig
from training.config.recipe import ConfigError
from training.data.pair_samplers import PairBatch
from training.data.plain_samplers import PlainSampler
from training.losses.pixel import charbonnier
from training.methods.inputs import Inputs, domain_crops, first_crops, new_generator, pair_sampler
from training.methods.method import Method, adam_phase
from training.methods.parts.input_mask import mask_input
from training.methods.parts.paired_terms import paired_terms
from training.methods.pictures import sample_picture


class Distillation(Method[Generator]):
    """Training of a student on the teachers' outputs for real LR crops and pseudo-pairs."""

    def __init__(self, inputs: Inputs, config: DistillationConfig) -> None:
        options = inputs.recipe.optimization
        network = inputs.recipe.generator
        self.inputs = inputs
        self.config = config
        student = new_generator(inputs)
        if not isinstance(student, GrainGenerator):
            raise ConfigError(
                f"distillation needs a generator of structure and grain apart, got {network.name!r}"
            )
        self.generator = self.student = student
        self.teachers: list[GrainGenerator] = []
        self.teacher_trainings: list[Mapping[str, Any]] = []
        for path in config.teachers:
            teacher, info = load_generator(inputs.data_root / Path(path))
            if not isinstance(teacher, GrainGenerator) or teacher.scale != student.scale:
                raise ConfigError(
                    f"a teacher of structure and grain apart at scale {student.scale} is needed, "
                    f"got {info.generator!r} at scale {teacher.scale} in {path}"
                )
            teacher = teacher.to(inputs.device).requires_grad_(requires_grad=False).eval()
            self.teachers.append(teacher)
            self.teacher_trainings.append(info.training)
        # The grain's spectrum is the first teacher's; only how much there is where must be learned.
        first = self.teachers[0].head
        if first.colours != student.head.colours:
            raise ConfigError(
                f"the student's grain has {student.head.colours} colours, the first teacher's in "
                f"{config.teachers[0]} has {first.colours}"
            )
        self.student.head.load_state_dict(first.state_dict())
        self.student.head.requires_grad_(requires_grad=False)
        # Colour for colour, amplitudes of different heads compare only where there is one of each.
        self._grain_teachers = [
            teacher
            for number, teacher in enumerate(self.teachers)
            if number == 0 or teacher.head.colours == first.colours == 1
        ]
        num_paired = round(options.batch_size * config.paired.share)
        self.pairs = pair_sampler(
            inputs, scale=student.scale, batch_size=num_paired, added=config.paired
        )
        plain = PlainSampler(
            inputs.lr,
            crop_px=options.crop_px,
            batch_size=options.batch_size - num_paired,
            seed=options.seed,
        )
        self.lr = inputs.feed.add("lr", plain)
        trained = [p for p in self.student.parameters() if p.requires_grad]
        self.phases = (
            adam_phase(
                "generator",
                trained,
                learning_rate=options.learning_rate,
                betas=options.betas,
                terms=self._terms,
            ),
        )
        self._crops = self._seen = torch.empty(0)
        self._pairs: PairBatch | None = None
        self._sample_crops = first_crops(inputs)

    def prepare(self, step: int) -> None:
        """Draw the LR crops of a step: those of the pseudo-pairs first, then real ones."""
        device = self.inputs.device
        self._pairs = self.pairs.batch(step).to(device) if self.pairs.batch_size else None
        parts = [] if self._pairs is None else [self._pairs.lr]
        parts += [self.lr.batch(step).to(device)] if self.lr.batch_size else []
        self._crops = torch.cat(parts)
        options = self.inputs.recipe.optimization
        self._seen = mask_input(
            self._crops, self.config.input_mask, step=step, steps=options.steps, seed=options.seed
        )

    def describe(self) -> dict[str, Any]:
        """Describe the run, and each teacher's own training."""
        inputs = self.inputs
        description = inputs.describe(domain_crops(inputs), lr_images=inputs.lr, tools=inputs.tools)
        # By name: the description ships with the bundle, and a path belongs to this machine.
        recipe = description["recipe"]
        names = [Path(path).name for path in self.config.teachers]
        description["recipe"] = {**recipe, "method": {**recipe["method"], "teachers": names}}
        return {**description, "teachers": self.teacher_trainings}

    def sample(self, average: Generator) -> NDArray[np.uint8]:
        """Show bicubic, the averaged student and the first teacher on fixed LR crops."""
        crops = self._sample_crops
        with torch.no_grad():
            taught = self.teachers[0](crops.to(self.inputs.device)).clamp(0, 1)
        return sample_picture(average, crops, references=taught)

    def _terms(self) -> Mapping[str, torch.Tensor]:
        config, pairs = self.config, self._pairs
        structure, amplitude, weight = self._target()
        own_structure, own_grain, own_amplitude = self.student.parts(self._seen)
        difference = charbonnier(own_structure, structure, weight=weight)
        terms = {
            "structure": config.structure_weight * difference,
            "amplitude": config.amplitude_weight * (own_amplitude - amplitude).abs().mean(),
        }
        if config.truth_weight and pairs is not None:
            count = len(pairs.lr)
            known = own_structure[:count]
            truth = paired_terms(
                known + own_grain[:count], known, pairs.hr, pairs.mask, config.paired
            )
            terms |= {name: config.truth_weight * term for name, term in truth.items()}
        return terms

    @torch.no_grad()
    def _target(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the target structure, the target amplitude, and each pixel's structure weight."""
        taught = [teacher.parts(self._crops) for teacher in self.teachers]
        structures = torch.stack([structure.float() for structure, _, _ in taught])
        # An amplitude is what its own head's colour is multiplied by: in the first one's units.
        unit = _colour_gain(self.teachers[0])
        amplitudes = torch.stack(
            [
                (_colour_gain(teacher) / unit)[:, None, None] * amplitude.float()
                for teacher, (_, _, amplitude) in zip(self.teachers, taught, strict=True)
                if teacher in self._grain_teachers
            ]
        )
        variance = structures.var(0, correction=0)
        weight = 1 / (1 + variance / self.config.disagreement**2)
        return structures.mean(0), amplitudes.mean(0), weight


def _colour_gain(generator: GrainGenerator) -> torch.Tensor:
    """Return the standard deviation of each colour's grain at amplitude 1, shape (colours,)."""
    head = generator.head
    variances = head.colour.weight.detach().square().sum((1, 2, 3))
    return variances.view(head.colours, head.phases).mean(1).sqrt()
