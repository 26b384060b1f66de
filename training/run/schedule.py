"""Learning rates over a run: a linear warm-up, then a cosine or one of the published shapes."""

import math
from typing import Literal


def learning_rate(
    step: int,
    *,
    steps: int,
    warm_up_steps: int,
    final_share: float,
    shape: Literal["cosine", "constant_then_linear", "halved_by_thirds"] = "cosine",
    peak: float = 1.0,
) -> float:
    """Return the learning rate of a step.

    Args:
        step: Number of the step, from 0.
        steps: Length of the run.
        warm_up_steps: Steps of the linear rise from zero.
        final_share: End of the cosine, as a share of the peak.
        shape: Course after the warm-up; the second is constant for half of what is left, then falls
            linearly to zero; the third is halved after each third of what is left.
        peak: Rate at the end of the warm-up; with 1, rates are shares of a peak.

    Source: Zhu et al. 2017 (CycleGAN) for the second shape, Du et al. 2020 (LIR) for the third.
    """
    if step < warm_up_steps:
        return peak * (step + 1) / warm_up_steps
    progress = min((step - warm_up_steps) / max(steps - warm_up_steps, 1), 1.0)
    if shape == "constant_then_linear":
        return peak * min(1.0, 2.0 * (1.0 - progress))
    if shape == "halved_by_thirds":
        return peak * 0.5 ** min(int(3 * progress), 2)
    return peak * (final_share + 0.5 * (1.0 - final_share) * (1 + math.cos(math.pi * progress)))
