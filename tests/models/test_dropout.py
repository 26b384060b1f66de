"""Dropout that a training step seeds."""

import pytest
import torch
from torch import nn

from models.dropout import SeededDropout, dropout_drawn_by


def seeded(seed: int) -> torch.Generator:
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


def test_masks_come_from_the_given_generator_alone() -> None:
    """The same seed, the same masks; the global generator is neither read nor moved."""
    network = nn.Sequential(SeededDropout(0.25), SeededDropout(0.25))
    features = torch.ones(2, 3, 40, 40)
    before = torch.get_rng_state()

    with dropout_drawn_by(network, seeded(1)):
        first = network(features)
    with dropout_drawn_by(network, seeded(1)):
        again = network(features)
    with dropout_drawn_by(network, seeded(2)):
        other = network(features)

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    # Two layers, each with three quarters of the values, raised to the same mean.
    assert {0.0, round(16 / 9, 5)} == {round(value, 5) for value in first.unique().tolist()}
    assert 0.56 == pytest.approx(float((first > 0).float().mean()), abs=0.02)


def test_eval_mode_and_probability_zero_change_nothing() -> None:
    """Neither needs a generator."""
    features = torch.rand(1, 2, 4, 4)

    assert features is SeededDropout(0.5).eval()(features)
    assert features is SeededDropout(0.0)(features)


def test_training_without_a_generator_is_refused() -> None:
    """A method that seeds nothing would train a run that cannot be resumed."""
    network = SeededDropout(0.5)
    with dropout_drawn_by(network, seeded(0)):
        network(torch.ones(1))
    with pytest.raises(RuntimeError, match="no generator to draw from"):
        network(torch.ones(1))


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_impossible_probabilities_are_refused(probability: float) -> None:
    """At 1 nothing would be left to divide."""
    with pytest.raises(ValueError, match=f"dropout is {probability}, expected 0 to below 1"):
        SeededDropout(probability)
