"""Losses of LIR: closed forms and limits."""

import math

import pytest
import torch

from training.losses.lir import (
    BLURS,
    background_consistency,
    box_like_taps,
    code_energy,
    content_d,
    content_g,
    multi_reference,
    scales_d,
    scales_g,
    semantic_consistency,
)


def draws(seed: int = 0) -> torch.Generator:
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


def test_image_adversaries_are_summed_over_scales_without_a_half() -> None:
    """Zero logits everywhere cost 1 a scale on either side; right answers cost nothing."""
    zeros = [torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 2, 2)]
    ones = [torch.ones_like(logits) for logits in zeros]

    assert 2.0 == float(scales_d(zeros, zeros)) == float(scales_g(zeros))
    assert 0.0 == float(scales_d(ones, zeros)) == float(scales_g(ones))
    assert 4.0 == float(scales_d(zeros, ones))


def test_encoders_have_nothing_to_gain_from_an_undecided_discriminator() -> None:
    """0.5 for all codes is their optimum, whereas the discriminator wants 0 for X and 1 for Y."""
    halves, zeros, ones = torch.full((3,), 0.5), torch.zeros(3), torch.ones(4)

    assert 0.0 == float(content_g(halves, halves))
    assert 0.5 == float(content_g(zeros, ones)) == float(content_g(ones, zeros))
    assert 0.0 == float(content_d(zeros, ones))
    assert 2.0 == float(content_d(ones, torch.zeros(4)))


def test_background_consistency_hardly_sees_white_noise() -> None:
    """Noise of deviation s costs sqrt(2 / pi) s times the norm of each blur: .05 s for 15 px."""
    image = torch.rand(1, 1, 256, 256, generator=draws())
    std = 0.2
    noisy = image + std * torch.randn(image.shape, generator=draws(1))
    shares = {
        size: math.sqrt(2 / math.pi) * float((box_like_taps(size).double() ** 2).sum())
        for size, _ in BLURS
    }

    loss = float(background_consistency(noisy, image))

    assert pytest.approx(0.0532, abs=5e-4) == shares[15]
    expected = std * sum(weight * shares[size] for size, weight in BLURS)
    assert pytest.approx(expected, rel=0.05) == loss
    assert 0.0 == float(background_consistency(image, image))


def test_background_consistency_sees_a_shift_of_grey_in_full() -> None:
    """An offset passes every blur: it costs the sum of their weights."""
    image = torch.rand(2, 1, 32, 32, generator=draws())

    loss = background_consistency(image + 0.1, image)

    assert pytest.approx(0.1 * 1.75, rel=1e-4) == float(loss)


def test_semantic_consistency_ignores_gain_and_offset_of_a_feature() -> None:
    """Instance normalisation removes them; another pattern costs up to 4."""
    features = torch.randn(2, 3, 8, 8, generator=draws())

    assert float(semantic_consistency(3.0 * features + 2.0, features)) < 1e-6
    assert pytest.approx(4.0, rel=1e-3) == float(semantic_consistency(-features, features))


def test_code_energy_sums_mean_squares() -> None:
    """Codes of different sizes count alike."""
    codes = [torch.full((2, 4, 3, 3), 2.0), torch.full((1, 8, 1, 1), -3.0)]

    assert 13.0 == float(code_energy(codes))


def test_eq_3_1_is_zero_for_equal_outputs_and_blind_to_their_order() -> None:
    """Its pairs are averaged: the mean distance of three outputs, in any order."""
    one, other = torch.zeros(2, 1, 4, 4), torch.full((2, 1, 4, 4), 0.3)

    assert 0.0 == float(multi_reference([one, one, one]))
    orders = [[one, one, other], [one, other, one], [other, one, one]]
    for order in orders:
        assert pytest.approx(0.2) == float(multi_reference(order))
    assert pytest.approx(0.3) == float(multi_reference([one, other]))
    with pytest.raises(ValueError, match="compares at least 2 outputs, got 1"):
        multi_reference([one])
