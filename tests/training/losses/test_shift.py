"""Comparison of pairs: exact shifts, a fit without gradient, tolerance to a pixel."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from training.ground.baselines import fit_gain_offset
from training.losses.pixel import charbonnier
from training.losses.shift import align_pairs, fit_tone, margin_of, shift_images, without_margin


def scene(
    count: int = 2, side_px: int = 40, *, shift: tuple[float, float] = (0, 0)
) -> torch.Tensor:
    """Return waves of known phase, (N, 1, side, side) in [0, 1], moved down and to the right."""
    y, x = torch.meshgrid(*(torch.arange(side_px, dtype=torch.float64),) * 2, indexing="ij")
    y, x = y - shift[0], x - shift[1]
    waves = [
        torch.sin(0.31 * x + 0.17 * (k + 1) * y) + torch.cos(0.23 * y - 0.11 * k * x)
        for k in range(count)
    ]
    return (0.5 + 0.15 * torch.stack(waves))[:, None].float()


def shifts(*pairs: tuple[float, float]) -> torch.Tensor:
    """Return (N, 2) shifts."""
    return torch.tensor(pairs, dtype=torch.float32)


def test_whole_pixels_are_moved_and_nothing_else() -> None:
    """No rounding, and each image by its own shift; a shift of zero keeps the very values."""
    images = scene()

    moved = shift_images(images, shifts((1, -2), (0, 0)))

    assert torch.equal(images[:1, :, :-1, 2:], moved[:1, :, 1:, :-2])
    assert torch.equal(images[1], moved[1])
    assert torch.equal(images, shift_images(images, shifts((0, 0), (0, 0))))


def test_taps_are_keys_cubic() -> None:
    """Half a pixel: (-1, 9, 9, -1) / 16, the values of Keys 1981 at a = -0.5."""
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[0, 0, 4, 4] = 1

    moved = shift_images(impulse, shifts((0.5, 0)))

    expected = torch.tensor([0, 0, 0, -1, 9, 9, -1, 0, 0]) / 16
    torch.testing.assert_close(moved[0, 0, :, 4], expected, rtol=0, atol=1e-6)
    assert 0 == float(moved[0, 0, :, [3, 5]].abs().max())


def test_shift_is_that_of_scipy_and_moves_down_and_right() -> None:
    """The direction is `SourcePair`'s: the scene lies further down and to the right afterwards."""
    moved = shift_images(scene(), shifts((0.4, -0.3), (0.4, -0.3)))

    inner = (moved - scene(shift=(0.4, -0.3)))[..., 4:-4, 4:-4]
    assert float(inner.abs().max()) < 5e-4
    spline = ndimage.shift(scene()[0, 0].numpy(), (0.4, -0.3), order=3)
    assert float(np.abs(spline - moved[0, 0].numpy())[6:-6, 6:-6].max()) < 1e-3


def test_fit_undoes_gain_and_offset_and_is_the_least_squares_one() -> None:
    """Of each image by itself; the prior changes the gain of a picture with contrast by 0.1 %."""
    target = scene()
    images = torch.cat([target[:1] / 1.3 + 0.1, target[1:] / 0.8 - 0.05])

    fitted = fit_tone(images, target)

    assert float((fitted - target).abs().max()) < 1.5e-3
    noisy = images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    both = zip(noisy[:, 0].numpy(), target[:, 0].numpy(), strict=True)
    exact = np.stack([fit_gain_offset(image, reference) for image, reference in both])
    assert float(np.abs(fit_tone(noisy, target)[:, 0].numpy() - exact).max()) < 2e-3


def test_fit_never_inverts_and_is_bounded() -> None:
    """An output of inverted contrast must stay wrong; a flat one gets the offset alone."""
    target = scene()

    inverted = fit_tone(1 - target, target, gain_limit=1.5)
    flat = fit_tone(torch.full_like(target, 0.2), target)

    spread = target.std((1, 2, 3)) / 1.5
    torch.testing.assert_close(inverted.std((1, 2, 3)), spread, rtol=1e-4, atol=0)
    correlation = torch.corrcoef(torch.stack([inverted.flatten(), target.flatten()]))[0, 1]
    assert float(correlation) < -0.99
    torch.testing.assert_close(flat, target.mean((1, 2, 3), keepdim=True).expand_as(target))


def test_fit_gets_no_gradient() -> None:
    """The gradient is that of the loss with gain and offset as constants, not that of the fit."""
    target = scene().double()
    images = (0.8 * target + 0.1 + 0.02 * torch.sin(90 * target)).requires_grad_()

    fitted = fit_tone(images, target)
    (gradient,) = torch.autograd.grad(fitted.sum(), images)

    per_image = gradient.flatten(1)
    # The sum of a fitted image is that of its target whatever the image is; only a constant gain
    # makes its gradient that gain, everywhere the same and not zero.
    assert torch.equal(per_image, per_image[:, :1].expand_as(per_image))
    assert bool((per_image[:, 0] > 1.1).all())


@pytest.mark.parametrize("step", [(0, 0), (1, 0), (-1, 1), (1, -1)])
def test_a_shift_of_a_pixel_costs_nothing(step: tuple[int, int]) -> None:
    """It is found crop by crop, and what remains is the loss of equal images: eps."""
    hr = scene(shift=step)
    hr[1] = scene()[1]

    aligned = align_pairs(scene(), hr, shifts((0, 0), (0, 0)), margin_px=1, eps=1e-3)

    assert [list(step), [0, 0]] == aligned.steps.tolist()
    assert (2, 1, 38, 38) == tuple(aligned.hr.shape)
    assert 1e-3 == pytest.approx(float(charbonnier(aligned.fitted, aligned.hr)), rel=1e-3)
    without = align_pairs(
        scene(), hr, shifts((0, 0), (0, 0)), margin_px=1, tolerance_px=0, eps=1e-3
    )
    if step != (0, 0):
        assert float(charbonnier(without.fitted, without.hr)) > 1e-2


def test_the_known_fraction_is_compensated_and_hr_is_not_interpolated() -> None:
    """A shift of (1.3, -0.4) px, of which the pair names (0.3, -0.4): one pixel is looked for."""
    hr = scene(shift=(1.3, -0.4))
    known = shifts((0.3, -0.4), (0.3, -0.4))

    aligned = align_pairs(scene(), hr, known, margin_px=margin_of(0.4), eps=1e-3)
    unknown = align_pairs(scene(), hr, torch.zeros_like(known), margin_px=margin_of(0.4), eps=1e-3)

    assert [[1, 0], [1, 0]] == aligned.steps.tolist()
    assert torch.equal(without_margin(hr, 3)[..., 1:, :], aligned.hr[..., :-1, :])
    found, lost = (float(charbonnier(x.fitted, x.hr)) for x in (aligned, unknown))
    assert found < 1.02e-3
    assert lost > 5e-3


def test_gradient_reaches_the_output_through_the_shift() -> None:
    """Against finite differences, in double precision."""
    sr = scene(1, 12).double().requires_grad_()
    hr = scene(1, 12, shift=(1, 0)).double() + 0.01

    def loss(image: torch.Tensor) -> torch.Tensor:
        # A gain limit of 1 leaves the offset, whose derivative is left out on purpose.
        moved = shift_images(image, torch.tensor([[0.3, 0.2]], dtype=torch.float64))
        return charbonnier(without_margin(moved, 4), without_margin(hr, 4), eps=0.02)

    assert torch.autograd.gradcheck(loss, [sr])


def test_margins_and_what_is_refused() -> None:
    """A border that no shift spoils, and errors with the sizes."""
    assert [1, 3, 4, 2] == [
        margin_of(0),
        margin_of(0.4),
        margin_of(1.2),
        margin_of(0.4, tolerance_px=0),
    ]
    with pytest.raises(ValueError, match=r"for each of 2 images needed, got \(1, 2\)"):
        shift_images(scene(), shifts((0, 0)))
    with pytest.raises(ValueError, match="a margin of 20 px leaves nothing of 40x40 px"):
        align_pairs(scene(), scene(), shifts((0, 0), (0, 0)), margin_px=20)
