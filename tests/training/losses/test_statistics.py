"""Distribution losses: known distances, and blindness to place."""

import functools

import numpy as np
import pytest
import torch

from training.losses.filters import gaussian_taps, separable_blur
from training.losses.statistics import (
    histogram_distance,
    log_psd_difference,
    quantile_difference,
    sliced_wasserstein,
)

LOSSES = [
    functools.partial(log_psd_difference, patch_px=32, num_patches=16),
    functools.partial(sliced_wasserstein, num_samples=1024, num_projections=8),
    functools.partial(histogram_distance, num_samples=2048),
]


def grain(number: int, side_px: int = 96, *, sigma: float = 0.05, seed: int = 0) -> torch.Tensor:
    """Return white noise about mid-grey, (number, 1, side, side)."""
    draws = torch.Generator().manual_seed(seed)
    return 0.5 + sigma * torch.randn(number, 1, side_px, side_px, generator=draws)


def fresh(seed: int = 0) -> torch.Generator:
    """Return a generator for one loss."""
    return torch.Generator().manual_seed(seed)


def test_power_ratio_is_the_psd_difference() -> None:
    """Noise of three times the deviation is ln 9 apart at every frequency, alike is near 0."""
    loss = functools.partial(log_psd_difference, patch_px=32, num_patches=256)

    assert float(loss(grain(4, sigma=0.15), grain(4, seed=1), generator=fresh())) == pytest.approx(
        np.log(9), rel=0.05
    )
    assert float(loss(grain(4), grain(4, seed=1), generator=fresh())) < 0.1


def test_psd_equals_a_slow_version() -> None:
    """On images of one patch each: NumPy's transform, rings by rounding the radius."""
    sr, reference = (
        grain(1, 16).double(),
        separable_blur(grain(1, 16, seed=1).double(), gaussian_taps(1.0)),
    )

    def rings(image: np.ndarray) -> np.ndarray:
        window = np.outer(np.hanning(16), np.hanning(16))
        weighted = image - (image * window).sum() / window.sum()
        power = np.abs(np.fft.fft2(weighted * window)) ** 2 / 256
        sums, counts = np.zeros(9), np.zeros(9)
        for u in range(16):
            for v in range(16):
                radius = round(np.hypot(u - 16 * (u >= 8), v - 16 * (v >= 8)))
                if radius <= 8:
                    sums[radius] += power[u, v]
                    counts[radius] += 1
        return np.log(sums[1:] / counts[1:])

    expected = np.abs(rings(sr.numpy()[0, 0]) - rings(reference.numpy()[0, 0])).mean()
    loss = log_psd_difference(sr, reference, generator=fresh(), patch_px=16, num_patches=1)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_sliced_wasserstein_of_scaled_noise() -> None:
    """Projections of white noise on unit directions are normal: E|z| times the difference."""
    loss = sliced_wasserstein(
        grain(4, sigma=0.15), grain(4, seed=1), generator=fresh(), num_scales=1
    )

    assert float(loss) == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.1)


def test_sliced_wasserstein_is_high_passed_and_sees_texture() -> None:
    """Another tone costs nothing; smoothing, which keeps every edge, costs much."""
    image = grain(2)

    def loss(sr: torch.Tensor) -> float:
        return float(sliced_wasserstein(sr, grain(2, seed=1), generator=fresh()))

    assert loss(image + 0.3) == pytest.approx(loss(image), rel=0.01)
    assert loss(separable_blur(image, gaussian_taps(1.5))) > 5 * loss(image)


def test_histogram_distance_is_the_shift_of_tone() -> None:
    """The Wasserstein distance of a shift is the shift."""
    assert float(
        histogram_distance(grain(1, 64) + 0.2, grain(1, 64), generator=fresh())
    ) == pytest.approx(0.2, abs=1e-5)


def test_quantile_difference_of_unequal_counts() -> None:
    """Samples repeated a whole number of times are the same distribution, whichever side."""
    few = torch.rand(50, 3, generator=fresh())
    many = few.repeat_interleave(40, 0)
    shifted = many[torch.randperm(2000, generator=fresh())] + 0.5

    assert float(quantile_difference(few, few)) == 0.0
    assert float(quantile_difference(few, many)) < 0.01
    assert float(quantile_difference(few, shifted)) == pytest.approx(0.5, abs=0.01)
    assert float(quantile_difference(shifted, few)) == pytest.approx(0.5, abs=0.01)


def test_quantile_difference_equals_sorting_by_hand() -> None:
    """Column by column."""
    values = np.array([[3.0, 1.0], [1.0, 5.0], [2.0, 0.0]])
    reference = np.array([[0.0, 1.0], [4.0, 1.0], [1.0, 2.0]])

    expected = np.mean([abs(1 - 0), abs(2 - 1), abs(3 - 4), abs(0 - 1), abs(1 - 1), abs(5 - 2)])
    loss = quantile_difference(torch.from_numpy(values), torch.from_numpy(reference))
    assert float(loss) == pytest.approx(expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_blind_to_place_and_order(loss) -> None:
    """Unaligned data: the other way round, flipped and rolled, it is the same distribution."""
    noise, blurred = grain(3), separable_blur(grain(3, seed=1), gaussian_taps(1.0)) + 0.1

    plain = float(loss(noise, blurred, generator=fresh()))
    moved = float(loss(noise.flip(0, 3).roll(17, 2), blurred.flip(2), generator=fresh(1)))

    assert moved == pytest.approx(plain, rel=0.15)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_take_other_numbers_and_sizes(loss) -> None:
    """Five real images of another size against two generated ones."""
    apart = float(loss(grain(2, sigma=0.1), grain(5, 72, seed=1), generator=fresh()))
    alike = float(loss(grain(2), grain(5, 72, seed=1), generator=fresh()))

    assert apart > 3 * alike


@pytest.mark.parametrize("loss", LOSSES)
def test_draws_come_from_the_generator(loss) -> None:
    """The same state gives the same number; another one other patches."""
    a, b = grain(2), grain(2, seed=1)

    assert float(loss(a, b, generator=fresh(3))) == float(loss(a, b, generator=fresh(3)))
    assert float(loss(a, b, generator=fresh(3))) != float(loss(a, b, generator=fresh(4)))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_descends_and_reaches_only_the_output(loss) -> None:
    """A small step against the gradient lowers the loss; the reference is data."""
    sr = separable_blur(grain(2), gaussian_taps(1.0)).requires_grad_()
    reference = (grain(2, seed=1) + 0.1).requires_grad_()

    before = loss(sr, reference, generator=fresh())
    before.backward()

    assert sr.grad is not None
    assert reference.grad is None
    with torch.no_grad():
        stepped = sr - 0.05 * sr.grad / sr.grad.norm()
        assert float(loss(stepped, reference, generator=fresh())) < float(before)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_compute_in_float32_under_autocast(loss) -> None:
    """Transforms and sorted differences in bfloat16 would be worthless."""
    a, b = grain(2), grain(2, sigma=0.1, seed=1)

    exact = float(loss(a, b, generator=fresh()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert exact == float(loss(a, b, generator=fresh()))


def test_flat_images_have_a_finite_psd() -> None:
    """No power at all is a large distance, not an infinite one."""
    flat = torch.full((1, 1, 64, 64), 0.5, requires_grad=True)

    loss = log_psd_difference(flat, grain(1), generator=fresh())
    loss.backward()

    assert 5 < float(loss.detach()) < 50
    assert flat.grad is not None
    assert bool(torch.isfinite(flat.grad).all())


def test_bad_input_is_refused() -> None:
    """Patches larger than images, colour."""
    with pytest.raises(ValueError, match="reference images of 32x32 px are smaller than 64 px"):
        log_psd_difference(grain(1), grain(1, 32), generator=fresh())
    with pytest.raises(ValueError, match=r"generated images must be grey .* got \(1, 3, 64, 64\)"):
        histogram_distance(torch.rand(1, 3, 64, 64), grain(1), generator=fresh())
