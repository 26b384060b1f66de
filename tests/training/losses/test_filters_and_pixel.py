"""Filters shared by losses, and the aligned pixel losses, against SciPy and known values."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from training.losses.filters import gaussian_taps, local_mean, separable_blur
from training.losses.pixel import charbonnier


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return random grey in [0, 1], float64."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_separable_blur_equals_scipy() -> None:
    """Asymmetric taps are convolved, not correlated, and the border is reflected about pixels."""
    taps = torch.tensor([0.1, 0.2, 0.4, 0.05, 0.25], dtype=torch.float64)
    batch = images(2, 1, 9, 12)

    expected = ndimage.convolve1d(batch.numpy(), taps.numpy(), axis=-1, mode="mirror")
    expected = ndimage.convolve1d(expected, taps.numpy(), axis=-2, mode="mirror")
    np.testing.assert_allclose(separable_blur(batch, taps).numpy(), expected, atol=1e-7)


def test_gaussian_taps_have_the_deviation() -> None:
    """Sum 1, odd, and a variance close to sigma squared (three deviations are kept)."""
    taps = gaussian_taps(2.0).double()
    positions = torch.arange(len(taps)) - len(taps) // 2

    assert 13 == len(taps)
    assert float(taps.sum()) == pytest.approx(1.0)
    assert float((taps * positions**2).sum()) == pytest.approx(4.0, rel=0.04)


def test_local_mean_is_cut_off_at_the_border() -> None:
    """In a corner it averages over the quarter of the window that is there."""
    batch = images(1, 1, 8, 8)

    mean = local_mean(batch, 5)

    assert float(mean[0, 0, 0, 0]) == pytest.approx(float(batch[0, 0, :3, :3].mean()))
    assert float(mean[0, 0, 4, 4]) == pytest.approx(float(batch[0, 0, 2:7, 2:7].mean()))


def test_bad_filters_are_refused() -> None:
    """Even windows have no centre; a kernel wider than the image cannot be reflected."""
    with pytest.raises(ValueError, match="odd window, got 4"):
        local_mean(images(1, 1, 8, 8), 4)
    with pytest.raises(ValueError, match="odd number of taps"):
        separable_blur(images(1, 1, 8, 8), torch.ones(4) / 4)
    with pytest.raises(ValueError, match="17 taps do not fit images of 8x8"):
        separable_blur(images(1, 1, 8, 8), torch.ones(17) / 17)
    with pytest.raises(ValueError, match="above 0 px, got 0"):
        gaussian_taps(0.0)


def test_charbonnier_by_hand() -> None:
    """It is eps for equal images; the root of d^2 + eps^2 for a known difference."""
    zero = torch.zeros(1, 1, 2, 2)

    assert float(charbonnier(zero, zero, eps=0.5)) == pytest.approx(0.5)
    assert float(charbonnier(zero + 1.2, zero, eps=0.5)) == pytest.approx(1.3)


def test_charbonnier_weighs() -> None:
    """A weighted mean: three parts of one difference and one of another."""
    zero = torch.zeros(1, 1, 1, 2)
    other = torch.tensor([[[[3.0, 7.0]]]])
    weight = torch.tensor([[[[3.0, 1.0]]]])

    assert float(charbonnier(other, zero, eps=1e-6, weight=weight)) == pytest.approx(4.0)


def test_gradients_are_right_and_broadcasting_is_refused() -> None:
    """Checked by finite differences; one image against a batch is an error, not a mean."""
    a = images(1, 1, 8, 8, seed=1).requires_grad_()

    assert torch.autograd.gradcheck(lambda x: charbonnier(x, images(1, 1, 8, 8)), (a,))
    with pytest.raises(ValueError, match="two tensors of one shape"):
        charbonnier(images(2, 1, 8, 8), images(1, 1, 8, 8))
