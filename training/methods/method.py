"""Interface between the training loop and a method.

The loop (`training.trainer`) handles steps, learning rates, saving and logging. A method defines
the networks, the batches and the losses. In each step the loop calls `prepare`, then makes the
optimiser steps of each phase (one, unless it says otherwise), in order.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from models import Network

Trained = TypeVar("Trained", bound=Network)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One optimiser step, or several, of a training step.

    Attributes:
        name: Name in logs and errors: `generator`, `discriminator`, `metric`.
        optimizer: Optimiser of this phase's parameters only.
        learning_rate: Peak learning rate; the recipe's schedule scales it.
        terms: Weighted loss terms by name; their sum is minimised. Called after the phases before
            it have stepped. An empty mapping skips the step.
        repeats: Number of optimiser steps, each on terms of its own; logs show the last ones.
        gradient_clip: Largest gradient norm, 0 for none; None for the recipe's.
    """

    name: str
    optimizer: torch.optim.Optimizer
    learning_rate: float
    terms: Callable[[], Mapping[str, torch.Tensor]]
    repeats: int = 1
    gradient_clip: float | None = None


def adam_phase(
    name: str,
    parameters: Iterable[torch.nn.Parameter],
    *,
    learning_rate: float,
    betas: tuple[float, float],
    terms: Callable[[], Mapping[str, torch.Tensor]],
    weight_decay: float = 0.0,
    repeats: int = 1,
    gradient_clip: float | None = None,
) -> Phase:
    """Return a phase with an Adam optimiser; `Phase` describes the other arguments.

    `weight_decay` is the L2 penalty of Adam itself, not the decoupled one of AdamW.
    """
    optimizer = torch.optim.Adam(
        parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay
    )
    return Phase(
        name=name,
        optimizer=optimizer,
        learning_rate=learning_rate,
        terms=terms,
        repeats=repeats,
        gradient_clip=gradient_clip,
    )


class Method(ABC, Generic[Trained]):
    """Networks, batches and losses of one way to train a network.

    Attributes:
        generator: Network that is trained; the trainer keeps its running average, which the
            checkpoint holds.
        phases: Phases in the order in which they step.
    """

    generator: Trained
    phases: Sequence[Phase]

    @abstractmethod
    def prepare(self, step: int) -> None:
        """Draw the batch of a step; the draw depends on the seed and the step alone."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Describe the data for the checkpoint: see `training.run.provenance`."""

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the networks, other than the generator, that a resumed run needs."""
        return {}

    def extra_state(self) -> dict[str, Any]:
        """Return anything else that a resumed run needs: tensors and plain values."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `extra_state` returned."""
        del state

    def validate(self, average: Trained) -> dict[str, float]:
        """Measure the averaged generator on the held-out tiles; the default measures nothing."""
        del average
        return {}

    @abstractmethod
    def sample(self, average: Trained) -> NDArray[np.uint8]:
        """Make a picture of the averaged generator's output on fixed crops, (H, W) uint8."""


def step_seed(seed: int, step: int, purpose: int) -> int:
    """Return a seed for torch generators that differs with the recipe's seed, step and purpose.

    Args:
        seed: Seed of the recipe.
        step: Number of the step, from 0.
        purpose: Small number that tells apart the draws of one step.
    """
    return int(np.random.SeedSequence((seed, step, purpose)).generate_state(1, np.uint64)[0] >> 1)


def ramp(step: int, *, steps: int, start_share: float, ramp_share: float = 0.0) -> float:
    """Return the factor of a loss term that starts during a run: 0, then a linear rise to 1.

    Args:
        step: Number of the step, from 0.
        steps: Length of the run.
        start_share: Share of the run without the term.
        ramp_share: Share of the run that the line takes.
    """
    start = round(start_share * steps)
    if step < start:
        return 0.0
    return min(1.0, (step - start + 1) / max(round(ramp_share * steps), 1))


def step_generator(seed: int, step: int, purpose: int) -> torch.Generator:
    """Return a torch generator on the CPU, seeded by `step_seed`."""
    return torch.Generator().manual_seed(step_seed(seed, step, purpose))
