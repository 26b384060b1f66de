"""Distillation: a small generator learns the structure and the grain that a larger one gives.

Grain is learned by its amplitude, not by its pixels: both hash the same image, so that equal
amplitudes and colours give equal grain.

Source: output distillation of Hinton et al. 2015; for super-resolution Gao et al. 2018.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Generator, load_generator
from models.grain_sr import GrainSR
from training.config import ConfigError
from training.losses.pixel import charbonnier
from training.method import Method, Phase
from training.method_config import DistillationConfig
from training.methods.inputs import (
    Inputs,
    domain_crops,
    first_crops,
    new_generator,
    pair_sampler,
    sample_picture,
)
from training.provenance import describe_training
from training.samplers import PlainSampler


class Distillation(Method):
    """Teacher and student see real LR crops and pseudo-LR crops with planted defects."""

    def __init__(self, inputs: Inputs, config: DistillationConfig) -> None:
        options = inputs.recipe.optimization
        network = inputs.recipe.generator
        self.inputs = inputs
        self.config = config
        teacher, self.teacher_info = load_generator(inputs.data_root / Path(config.teacher))
        student = new_generator(inputs)
        if not (isinstance(teacher, GrainSR) and isinstance(student, GrainSR)):
            raise ConfigError(
                "distillation needs two generators of kind grain_sr, got "
                f"{self.teacher_info.generator!r} as teacher and {network.name!r} as student"
            )
        if teacher.scale != student.scale:
            raise ConfigError(f"the teacher's scale is {teacher.scale}, the student's is not")
        self.teacher = teacher.to(inputs.device).requires_grad_(requires_grad=False).eval()
        self.generator = self.student = student
        # The spectrum of the grain is the teacher's; only how much there is where must be learned.
        self.student.head.load_state_dict(self.teacher.head.state_dict())
        self.student.head.requires_grad_(requires_grad=False)
        num_paired = round(options.batch_size * config.paired.share)
        self.pairs = pair_sampler(
            inputs, scale=student.scale, batch_size=num_paired, added=config.paired
        )
        self.lr = PlainSampler(
            inputs.lr,
            crop_px=options.crop_px,
            batch_size=options.batch_size - num_paired,
            seed=options.seed,
        )
        trained = [p for p in self.student.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=options.learning_rate, betas=options.betas)
        self.phases = (
            Phase(
                name="generator",
                optimizer=optimizer,
                learning_rate=options.learning_rate,
                terms=self._terms,
            ),
        )
        self._crops = torch.empty(0)
        self._sample_crops = first_crops(inputs)

    def prepare(self, step: int) -> None:
        """Draw the LR crops of a step."""
        parts = [self.pairs.batch(step).lr] if self.pairs.batch_size else []
        parts += [self.lr.batch(step)] if self.lr.batch_size else []
        self._crops = torch.cat(parts).to(self.inputs.device)

    def describe(self) -> dict[str, Any]:
        """Describe the run, and the teacher's own training."""
        description = describe_training(
            self.inputs.recipe,
            hr_images=self.inputs.hr,
            lr_images=self.inputs.lr,
            held_out=self.inputs.held_out,
            tools=self.inputs.tools,
            lr_crops=domain_crops(self.inputs),
        )
        return {**description, "teacher": self.teacher_info.training}

    def sample(self, average: Generator) -> NDArray[np.uint8]:
        """Bicubic, the student and the teacher on the first LR crops."""
        crops = self._sample_crops
        with torch.no_grad():
            taught = self.teacher(crops.to(self.inputs.device)).clamp(0, 1)
        return sample_picture(average, crops, references=taught)

    def _terms(self) -> Mapping[str, torch.Tensor]:
        with torch.no_grad():
            structure, _, amplitude = self.teacher.parts(self._crops)
        own_structure, _, own_amplitude = self.student.parts(self._crops)
        amplitude_error = (own_amplitude - amplitude).abs().mean()
        return {
            "structure": self.config.structure_weight * charbonnier(own_structure, structure),
            "amplitude": self.config.amplitude_weight * amplitude_error,
        }
