"""Local energy: blind to the grain's very pixels, not to how much of it there is and where."""

import pytest
import torch

from training.losses.texture import flatness, local_energy


def grain(*, sigma: float, seed: int) -> torch.Tensor:
    """Draw white grain on mid grey, (1, 1, 96, 96)."""
    generator = torch.Generator().manual_seed(seed)
    return 0.4 + sigma * torch.randn(1, 1, 96, 96, generator=generator)


def test_equal_images_have_no_distance() -> None:
    """Zero, and with a finite gradient also where there is no texture at all."""
    flat = torch.full((1, 1, 32, 32), 0.5, requires_grad=True)

    loss = local_energy(flat, torch.full((1, 1, 32, 32), 0.5))
    loss.backward()

    assert 0 == float(loss.detach())
    assert flat.grad is not None
    assert bool(torch.isfinite(flat.grad).all())


def test_other_grain_of_the_same_strength_is_near_and_of_another_far() -> None:
    """Redrawn grain costs a fraction of what missing or doubled grain costs."""
    target = grain(sigma=0.01, seed=0)

    redrawn, missing, doubled = (
        float(local_energy(grain(sigma=sigma, seed=1), target)) for sigma in (0.01, 0.0, 0.02)
    )

    assert redrawn < 0.2 * missing
    assert redrawn < 0.2 * doubled


def test_it_sees_where_the_grain_is() -> None:
    """The same total on the wrong side is a large distance."""
    left = torch.full((1, 1, 96, 96), 0.4)
    left[..., :48] = grain(sigma=0.01, seed=0)[..., :48]
    right = torch.full((1, 1, 96, 96), 0.4)
    right[..., 48:] = grain(sigma=0.01, seed=1)[..., 48:]

    assert float(local_energy(right, left)) > 0.6 * float(
        local_energy(grain(sigma=0.01, seed=2), torch.full((1, 1, 96, 96), 0.4))
    )


def test_other_shapes_are_refused() -> None:
    """Only aligned pairs can be compared."""
    with pytest.raises(ValueError, match="shape"):
        local_energy(torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 40))


def step_edge(height: float) -> torch.Tensor:
    """Draw a vertical edge between columns 47 and 48, (1, 1, 96, 96)."""
    image = torch.full((1, 1, 96, 96), 0.4)
    image[..., 48:] += height
    return image


def test_flatness_weighs_edges_by_their_steepest_gradient_within_eight_pixels() -> None:
    """1 / (1 + (g / half)^4) of a step blurred by 2 px; all of it beyond the blur's reach is 1."""
    image = step_edge(0.3)
    # The central difference of a Gaussian's integral at the pixels beside the edge.
    positions = torch.arange(-40, 41, dtype=torch.float64)
    taps = torch.exp(-0.5 * (positions[34:47] / 2) ** 2)
    blurred = torch.nn.functional.conv1d(
        0.3 * (positions >= 0).double()[None, None], (taps / taps.sum())[None, None]
    )[0, 0]
    steepest = float(((blurred[2:] - blurred[:-2]) / 2).max())

    weight = flatness(image, half_gradient=0.012)

    expected = 1 / (1 + (steepest / 0.012) ** 4)
    assert pytest.approx(expected, rel=1e-4) == float(weight[0, 0, 40, 48 + 8])
    assert pytest.approx(expected, rel=1e-4) == float(weight[0, 0, 40, 47 - 8])
    assert 1 == float(weight[0, 0, 40, 20]) == float(weight[0, 0, 40, 76])


def test_flatness_looks_past_grain() -> None:
    """Grain of four grey levels leaves nearly all of the weight, and a faint edge takes it."""
    assert float(flatness(grain(sigma=4 / 255, seed=0), half_gradient=0.012).mean()) > 0.95
    assert float(flatness(step_edge(0.1), half_gradient=0.012)[0, 0, 40, 48]) < 0.25


def test_weighted_energy_takes_no_grain_for_a_lost_edge() -> None:
    """A blurred edge asks for energy that it lacks; by flatness that demand is nearly gone."""
    target = step_edge(0.3)
    blurred = torch.nn.functional.avg_pool2d(target, (1, 9), stride=1, padding=(0, 4))
    blurred[..., :4], blurred[..., -4:] = 0.4, 0.7
    weight = flatness(target, half_gradient=0.012)

    plain, weighted = local_energy(blurred, target), local_energy(blurred, target, weight=weight)

    assert float(weighted) < 0.05 * float(plain)
    assert torch.equal(plain, local_energy(blurred, target, weight=torch.ones_like(target)))


def test_flatness_refuses_a_gradient_of_zero() -> None:
    """All weights would be zero or not a number."""
    with pytest.raises(ValueError, match="a gradient above 0, got 0"):
        flatness(step_edge(0.1), half_gradient=0.0)
