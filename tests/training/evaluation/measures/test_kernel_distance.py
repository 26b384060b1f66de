"""The kernel distance against a slow version, and on sets that are equal or not."""

import numpy as np
import pytest
import torch

from training.evaluation.measures.kernel_distance import (
    FIRST_CHANNELS,
    kernel_distance,
    kernel_floor,
    picture_features,
)


def _features(seed: int, *, count: int = 12, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).exponential(1.0, (count, FIRST_CHANNELS + 8)) + shift


def test_distance_equals_a_slow_version() -> None:
    """Pair by pair: the mean kernel within either set, without self-pairs, less twice across."""
    x, y = _features(0, count=5), _features(1, count=6, shift=0.2)
    scales = [np.sqrt((y[:, part] ** 2).mean()) for part in (slice(0, 256), slice(256, None))]
    a, b = (np.concatenate([v[:, :256] / scales[0], v[:, 256:] / scales[1]], 1) for v in (x, y))

    def kernel(p: np.ndarray, q: np.ndarray) -> float:
        return (float(p @ q) / p.size + 1) ** 3

    within_a = np.mean([kernel(p, q) for i, p in enumerate(a) for j, q in enumerate(a) if i != j])
    within_b = np.mean([kernel(p, q) for i, p in enumerate(b) for j, q in enumerate(b) if i != j])
    across = np.mean([kernel(p, q) for p in a for q in b])

    assert kernel_distance(x, y) == pytest.approx(within_a + within_b - 2 * across)


def test_equal_sets_lie_about_zero_and_others_far_above() -> None:
    """Chance gives either sign, around the floor; a shift stands out."""
    reference = _features(2, count=30)
    equal = [kernel_distance(_features(seed, count=30), reference) for seed in range(3, 23)]

    floor = kernel_floor(reference)

    assert min(equal) < 0 < max(equal)
    assert abs(float(np.mean(equal))) < floor
    assert kernel_distance(_features(40, count=30, shift=0.5), reference) > 10 * floor


def test_too_small_sets_are_refused() -> None:
    """One picture has no spread."""
    with pytest.raises(ValueError, match="two pictures a set, got 1 and 12"):
        kernel_distance(_features(0, count=1), _features(1))
    assert np.isnan(kernel_floor(_features(0, count=3)))


def test_features_come_from_the_middle_and_from_the_border() -> None:
    """With grey means as features: the middle crop, and the outer 16 px of the side that is due."""

    def network(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "relu3_1": torch.nn.functional.avg_pool2d(images, 4),
            "relu4_1": torch.nn.functional.avg_pool2d(images, 8),
        }

    picture = np.full((256, 256), 51, np.uint8)
    picture[:, -16:] = 204

    border = [picture_features(picture, network, number=n).border for n in range(4)]

    assert [0.8, 0.8] == pytest.approx(border[1].tolist())
    for number in (0, 2, 3):
        assert [0.2, 0.2] == pytest.approx(border[number].tolist())
    assert [0.2, 0.2] == pytest.approx(picture_features(picture, network, number=1).centre.tolist())
