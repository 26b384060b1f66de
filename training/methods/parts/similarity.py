"""Self-similarity loss within a method: FSeSim, or LSeSim with heads that a phase trains."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from training.config.recipe import OptimizationConfig
from training.config.terms import SelfSimilarityConfig
from training.losses.features import load_vgg16
from training.losses.learned_correlation import LearnedCorrelation
from training.losses.spatial_correlation import SpatialCorrelation
from training.methods.method import Phase, adam_phase, ramp, step_generator

FOR_QUERIES, FOR_METRIC = 0, 2
"""Purposes of the draws of one step; see `methods.method.step_seed`."""


class Similarity:
    """Structure loss between two images, computed on the features of VGG16.

    Attributes:
        metric: Learned heads on the features; None for FSeSim, which needs none.
    """

    def __init__(
        self,
        config: SelfSimilarityConfig,
        options: OptimizationConfig,
        device: torch.device,
        *,
        vgg16: Path | None,
    ) -> None:
        self.config = config
        self.options = options
        self.metric: LearnedCorrelation | None = None
        features = load_vgg16(vgg16, taps=config.taps).to(device)
        if config.learned is None:
            self._compare = SpatialCorrelation(
                features,
                form=config.form,
                num_queries=config.queries,
                window_px=config.window_px,
                salient_share=config.salient_share,
            )
        else:
            self._compare = self.metric = LearnedCorrelation(
                features,
                form=config.form,
                num_queries=config.queries,
                window_px=config.window_px,
                positives=config.learned,
                negatives=config.learned_negatives,
                beta=config.learned_beta,
                init=config.learned_init,
            ).to(device)

    def term(self, step: int, source: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the generator's weighted term, every `interval` steps; otherwise an empty dict.

        Args:
            step: Number of the step, from 0.
            source: (N, 1, H, W) enlarged LR crops.
            fake: Pictures of them, the same shape, in the graph.
        """
        config = self.config
        start_share = 0.0 if self.metric is None else config.learned_warm_up_share
        if step % config.interval or not ramp(
            step, steps=self.options.steps, start_share=start_share
        ):
            return {}
        draws = step_generator(self.options.seed, step, FOR_QUERIES)
        loss = self._compare(source, fake, generator=draws)
        return {"self_similarity": config.interval * config.weight * loss}

    def phase(self, terms: Callable[[], Mapping[str, torch.Tensor]]) -> list[Phase]:
        """Return the phase that trains the heads on the given terms; none for FSeSim."""
        if self.metric is None:
            return []
        return [
            adam_phase(
                "metric",
                self.metric.parameters(),
                learning_rate=self.config.learned_learning_rate,
                betas=self.options.betas,
                terms=terms,
            )
        ]

    def metric_terms(
        self, step: int, source: torch.Tensor, fake: torch.Tensor, others: torch.Tensor
    ) -> Mapping[str, torch.Tensor]:
        """Return the loss term that trains the heads; empty for FSeSim.

        Args:
            step: Number of the step, from 0.
            source: (N, 1, H, W) enlarged LR crops.
            fake: Pictures of them, the same shape; they get no gradient.
            others: (M, 1, H, W) HR crops of other places.
        """
        if self.metric is None or not len(source):
            return {}
        count = min(len(source), len(others))
        loss = self.metric.metric_loss(
            source[:count],
            fake[:count].detach(),
            others[:count],
            generator=step_generator(self.options.seed, step, FOR_METRIC),
        )
        return {"metric": loss}
