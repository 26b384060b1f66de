"""Grain of flats: blind to layout, not to how strong and how coarse grain is at each grey."""

import pytest
import torch
from torch.nn import functional

from training.losses.flat_grain import flat_grain_difference


def scene(*, bars: int, sigma: float, seed: int, coarse: float = 0.0) -> torch.Tensor:
    """Draw bars of grey 0.6 on 0.2 with grain whose deviation grows with grey, (1, 1, 256, 256).

    Args:
        bars: Number of bars of 32 px.
        sigma: Deviation of white grain on the bars; half of it beside them.
        seed: Of the grain.
        coarse: Deviation of grain of 4 px beside the white one.
    """
    generator = torch.Generator().manual_seed(seed)
    image = torch.full((1, 1, 256, 256), 0.2)
    for number in range(bars):
        image[..., 64 * number + 16 : 64 * number + 48] = 0.6
    white = torch.randn(1, 1, 256, 256, generator=generator)
    rough = functional.interpolate(
        torch.randn(1, 1, 64, 64, generator=generator), scale_factor=4, mode="bicubic"
    )
    return image + torch.where(image > 0.4, 1.0, 0.5) * (sigma * white + coarse * rough)


def test_layout_costs_nothing() -> None:
    """Four bars against one, other grain of the same strength: a few hundredths of a neper."""
    many, few = scene(bars=4, sigma=0.02, seed=0), scene(bars=1, sigma=0.02, seed=1)

    assert float(flat_grain_difference(many, few)) < 0.05
    assert float(flat_grain_difference(many, many)) == 0


def test_strength_is_measured_in_nepers() -> None:
    """Twice the grain costs ln 2, too strong or too weak."""
    once, twice = scene(bars=2, sigma=0.01, seed=0), scene(bars=4, sigma=0.02, seed=1)

    for first, second in ((once, twice), (twice, once)):
        assert 0.693 == pytest.approx(float(flat_grain_difference(first, second)), abs=0.06)


def test_coarse_grain_is_told_from_fine() -> None:
    """Mottle is a distance though the finest band hardly changes."""
    plain = scene(bars=2, sigma=0.01, seed=0)

    assert (
        float(flat_grain_difference(scene(bars=2, sigma=0.01, seed=1, coarse=0.01), plain)) > 0.25
    )


def test_greys_are_compared_with_their_own() -> None:
    """The same grain everywhere is wrong where it should grow with grey, at equal mean power."""
    reference = scene(bars=4, sigma=0.02, seed=0)
    generator = torch.Generator().manual_seed(5)
    even = scene(bars=4, sigma=0.0, seed=0)
    even = even + (0.01**2 / 2 + 0.02**2 / 2) ** 0.5 * torch.randn(even.shape, generator=generator)

    assert float(flat_grain_difference(even, reference)) > 0.25


def test_structure_decides_the_places_without_a_gradient() -> None:
    """The gradient reaches the image alone, and is finite where there is no grain at all."""
    structure = scene(bars=2, sigma=0.0, seed=0).requires_grad_()
    grain = torch.zeros_like(structure, requires_grad=True)

    loss = flat_grain_difference(
        structure.detach() + grain, scene(bars=2, sigma=0.02, seed=1), structure=structure
    )
    loss.backward()

    assert float(loss.detach()) > 1
    assert structure.grad is None
    assert grain.grad is not None
    assert bool(torch.isfinite(grain.grad).all())


def test_nothing_in_common_is_no_distance() -> None:
    """Black against white: no grey is in both."""
    black, white = torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)

    assert float(flat_grain_difference(black, white)) == 0


def test_other_shapes_are_refused() -> None:
    """Grey images alone."""
    with pytest.raises(ValueError, match="grey images"):
        flat_grain_difference(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64))
