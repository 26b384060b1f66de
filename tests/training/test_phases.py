"""Phases of a step: how often each steps its optimiser, and how far a gradient reaches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from models import build_generator
from training.config.recipe import load_recipe
from training.methods.method import Method, Phase, adam_phase
from training.run.folder import RunDir
from training.trainer import Trainer


class Ramp(Method):
    """Two phases of one weight each, whose loss has the gradient 100."""

    def __init__(self, *, repeats: int, gradient_clip: float | None) -> None:
        self.generator = build_generator("rep_sr", {"channels": 2, "num_blocks": 1})
        self.first, self.second = (nn.Parameter(torch.zeros(())) for _ in range(2))
        self.calls: list[str] = []

        def phase(name: str, weight: nn.Parameter, **options: Any) -> Phase:
            return Phase(
                name=name,
                optimizer=torch.optim.SGD([weight], lr=1.0),
                learning_rate=1.0,
                terms=lambda: self._terms(name, weight),
                **options,
            )

        self.phases = (
            phase("first", self.first, repeats=repeats, gradient_clip=gradient_clip),
            phase("second", self.second),
        )

    def _terms(self, name: str, weight: torch.Tensor) -> Mapping[str, torch.Tensor]:
        self.calls.append(name)
        return {name: 100.0 * weight}

    def prepare(self, step: int) -> None:
        """Draw nothing."""
        self.calls.append(f"batch {step}")

    def describe(self) -> dict[str, Any]:
        """Describe nothing."""
        return {}

    def sample(self, average: nn.Module) -> NDArray[np.uint8]:
        """Show nothing."""
        del average
        return np.zeros((4, 4), np.uint8)


@pytest.mark.parametrize(("clip", "moved"), [(None, 3 * 0.5), (5.0, 3 * 5.0), (0.0, 3 * 100.0)])
def test_a_phase_may_step_several_times_within_a_limit_of_its_own(
    tiny_recipe: Path, tmp_path: Path, clip: float | None, moved: float
) -> None:
    """Each repeat has terms of its own, on one batch; other phases keep the recipe's limit."""
    overrides = [
        *("optimization.steps=1", "optimization.warm_up_steps=0", "optimization.gradient_clip=0.5"),
        "optimization.learning_rate=1e-3",
    ]
    recipe = load_recipe(tiny_recipe, overrides=overrides)
    method = Ramp(repeats=3, gradient_clip=clip)
    folder = RunDir(tmp_path / "run")
    folder.start(recipe, resume=False)

    Trainer(method, recipe=recipe, run_dir=folder).run()

    assert ["batch 0", "first", "first", "first", "second"] == method.calls
    assert pytest.approx(-moved) == float(method.first.detach())
    assert pytest.approx(-0.5) == float(method.second.detach())


def test_adam_phases_take_weight_decay() -> None:
    """It is Adam's own penalty: without a gradient, a weight still shrinks."""
    weight = nn.Parameter(torch.ones(()))
    phase = adam_phase(
        "a", [weight], learning_rate=0.1, betas=(0.0, 0.9), terms=dict, weight_decay=1e-4
    )
    weight.grad = torch.zeros(())

    phase.optimizer.step()

    assert 1e-4 == phase.optimizer.param_groups[0]["weight_decay"]
    assert pytest.approx(0.9, abs=1e-3) == float(weight.detach())
