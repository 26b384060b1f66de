"""Local energy: blind to the grain's very pixels, not to how much of it there is and where."""

import pytest
import torch

from training.losses.texture import local_energy


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
