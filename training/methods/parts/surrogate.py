"""Surrogate detector within a method: the phase that trains it, and its terms for the generator."""

from collections.abc import Callable, Mapping

import torch

from training.config.recipe import OptimizationConfig
from training.config.terms import SurrogateConfig
from training.data.pair_samplers import PairBatch
from training.losses.detection import (
    Cells,
    alarm_loss,
    detection_difference,
    detection_loss,
    label_cells,
)
from training.methods.method import Phase, adam_phase, ramp
from training.methods.parts.surrogate_detector import CELL_PX, SurrogateDetector

BORDER_CELLS = 3
"""Width of the margin that is ignored, in cells. There the detector sees the zero padding around
the crop, which affects its logits more than the picture does."""


class SurrogatePhase:
    """Detector trained on the pairs' HR crops, and the generator's loss terms from its logits.

    Attributes:
        detector: The network.
    """

    def __init__(
        self, config: SurrogateConfig, options: OptimizationConfig, device: torch.device
    ) -> None:
        self.config = config
        self.options = options
        self.detector = SurrogateDetector(channels=config.channels).to(device)

    def phase(self, pairs: Callable[[], PairBatch | None]) -> Phase:
        """Return the phase that trains the detector on the HR crops of each step's pairs."""

        def terms() -> Mapping[str, torch.Tensor]:
            batch = pairs()
            if batch is None:
                return {}
            logits, _ = self.detector(batch.hr)
            return {"surrogate": detection_loss(logits, _cells(batch))}

        return adam_phase(
            "surrogate",
            self.detector.parameters(),
            learning_rate=self.config.learning_rate,
            betas=self.options.betas,
            terms=terms,
        )

    def terms(
        self, step: int, pairs: PairBatch, paired: torch.Tensor, unpaired: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the generator's weighted terms; empty before their start.

        Args:
            step: Number of the step, from 0.
            pairs: The step's pairs.
            paired: (P, 1, H, W) generator's pictures of the pairs' LR crops; P may be 0.
            unpaired: (U, 1, H, W) generator's pictures of real LR crops, which hold no defects.
        """
        config = self.config
        share = ramp(
            step,
            steps=self.options.steps,
            start_share=config.start_share,
            ramp_share=config.ramp_share,
        )
        if not share:
            return {}
        self.detector.requires_grad_(requires_grad=False).eval()
        terms = {}
        if len(paired) and (config.weight or config.features_weight):
            logits, features = self.detector(paired)
            with torch.no_grad():
                wanted, wanted_features = self.detector(pairs.hr)
            if config.weight:
                judged = (_inner(part) for part in (logits, wanted, _cells(pairs).known))
                difference = detection_difference(*judged)
                terms["verdict"] = share * config.weight * difference
            if config.features_weight:
                made, real = (_inner(part.float()) for part in (features, wanted_features))
                distance = (made - real).abs().mean() / (real.abs().mean() + 1e-6)
                terms["verdict_features"] = share * config.features_weight * distance
        if len(unpaired) and config.silence_weight:
            logits, _ = self.detector(unpaired)
            terms["silence"] = share * config.silence_weight * alarm_loss(_inner(logits))
        self.detector.requires_grad_(requires_grad=True).train()
        return terms


def _cells(pairs: PairBatch) -> Cells:
    return label_cells(pairs.mask, pairs.foreign, cell_px=CELL_PX)


def _inner(cells: torch.Tensor) -> torch.Tensor:
    return cells[..., BORDER_CELLS:-BORDER_CELLS, BORDER_CELLS:-BORDER_CELLS]
