"""Supervised method: a pixel loss on HR crops and their synthetic LR versions, nothing else."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Generator
from training.config.method import SupervisedConfig
from training.losses.pixel import charbonnier
from training.methods.inputs import Inputs, held_out_psnr, new_generator, pair_sampler
from training.methods.method import Method, adam_phase
from training.methods.pictures import sample_picture

DOMAIN_BATCHES = 8


class Supervised(Method[Generator]):
    """Charbonnier loss on pseudo-pairs; the output approaches the mean of possible HR images."""

    def __init__(self, inputs: Inputs, config: SupervisedConfig) -> None:
        options = inputs.recipe.optimization
        self.inputs = inputs
        self.config = config
        self.generator = new_generator(inputs)
        self.sampler = pair_sampler(
            inputs, scale=self.generator.scale, batch_size=options.batch_size
        )
        self.phases = (
            adam_phase(
                "generator",
                self.generator.parameters(),
                learning_rate=options.learning_rate,
                betas=options.betas,
                terms=self._terms,
            ),
        )
        self._measure = held_out_psnr(inputs, scale=self.generator.scale)
        self._batch = self.sampler.batch(0)

    def prepare(self, step: int) -> None:
        """Draw the pairs of a step."""
        self._batch = self.sampler.batch(step)

    def describe(self) -> dict[str, Any]:
        """Describe the run; the LR statistics are those of the first batches."""
        crops = np.concatenate(
            [
                255.0 * self.sampler.batch(step).lr[:, 0].cpu().numpy()
                for step in range(DOMAIN_BATCHES)
            ]
        )
        return self.inputs.describe(crops, lr_images=(), tools=self.inputs.tools)

    def validate(self, average: Generator) -> dict[str, float]:
        """Measure PSNR on the held-out tiles; without such tiles the result is empty."""
        return self._measure(average)

    def sample(self, average: Generator) -> NDArray[np.uint8]:
        """Show bicubic, SR and HR of the first crops of step 0."""
        batch = self.sampler.batch(0)
        return sample_picture(average, batch.lr, references=batch.hr)

    def _terms(self) -> Mapping[str, torch.Tensor]:
        device = self.inputs.device
        lr, hr = self._batch.lr.to(device), self._batch.hr.to(device)
        return {"pixel": charbonnier(self.generator(lr), hr, eps=self.config.charbonnier_eps)}
