"""Keys' cubic against torch's antialiased one, and its closed forms."""

import pytest
import torch
from torch.nn import functional

from models.blocks import BicubicUpsample
from training.internal_learning.resize import (
    enlarge,
    keys,
    noise_gain,
    resize,
    resize_weights,
    shrink,
)


def image(*sides: int, seed: int = 0) -> torch.Tensor:
    """Return uniform noise in 0..1, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(sides, generator=generator, dtype=torch.float64)


def test_the_cubic_has_the_values_of_keys() -> None:
    """A = -0.5: 9/16 and -1/16 half-way, 1 at 0, 0 at all other integers."""
    distance = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, -0.5])

    assert [1, 0.5625, 0, -0.0625, 0, 0, 0.5625] == keys(distance).tolist()


@pytest.mark.parametrize("factor", [2, 4])
def test_inside_it_is_torch_with_antialiasing(factor: int) -> None:
    """Both directions agree with torch away from the border, where it cuts the kernel."""
    picture = image(48, 64)
    size = (48 // factor, 64 // factor)

    small = shrink(picture, factor)
    expected = functional.interpolate(
        picture[None, None], size=size, mode="bicubic", antialias=True
    )[0, 0]
    assert torch.allclose(expected[3:-3, 3:-3], small[3:-3, 3:-3], atol=1e-6)

    large = enlarge(picture, factor, (48 * factor, 64 * factor))
    up = BicubicUpsample(scale=factor).double()(picture[None, None])[0, 0]
    assert torch.allclose(up[12:-12, 12:-12], large[12:-12, 12:-12], atol=1e-6)


def test_scale_one_is_exactly_the_identity() -> None:
    """A father in whole pixels keeps every bit of the tile."""
    assert torch.equal(
        torch.eye(40).double()[None], resize_weights(torch.ones(1), length=40, out_length=40)
    )


@pytest.mark.parametrize("scale", [0.25, 0.37, 0.5, 1.0, 2.0, 4.0])
def test_greys_and_the_border_are_kept(scale: float) -> None:
    """A constant stays constant, and what is symmetric stays so: pixel centres are half-way."""
    out = round(48 * scale)
    weights = resize_weights(torch.tensor([scale], dtype=torch.float64), length=48, out_length=out)

    assert torch.allclose(torch.ones(1, out).double(), weights.sum(2), atol=1e-12)
    if out == 48 * scale:
        assert torch.allclose(weights, weights.flip(1, 2), atol=1e-12)


def test_a_ramp_keeps_its_slope() -> None:
    """A line of slope 1 has slope 1/scale, at half-pixel centres, where the border is far."""
    ramp = torch.arange(64, dtype=torch.float64)[None].expand(64, 64)

    assert torch.allclose(
        4 * torch.arange(4, 12, dtype=torch.float64) + 1.5, shrink(ramp, 4)[8, 4:12], atol=1e-9
    )


def test_an_odd_side_comes_back_to_its_size() -> None:
    """61 px shrink to 16 and are enlarged to 61 again, in place: the scale is not 61/16."""
    y = torch.arange(61, dtype=torch.float64)
    smooth = (0.5 + 0.4 * torch.sin(y / 9))[:, None].expand(61, 44)

    small = shrink(smooth, 4)
    back = enlarge(small, 4, (61, 44))

    assert (16, 11) == tuple(small.shape)
    assert (back - smooth)[8:52].abs().max() < 0.02


def test_each_scale_of_a_batch_is_its_own() -> None:
    """The matrices of several scales are those of each."""
    scales = torch.tensor([0.5, 0.8, 1.0], dtype=torch.float64)
    together = resize_weights(scales, length=40, out_length=20)

    for number, scale in enumerate(scales):
        alone = resize_weights(scale[None], length=40, out_length=20)[0]
        assert torch.allclose(alone, together[number], atol=1e-12)


def test_white_noise_loses_what_the_kernel_says() -> None:
    """The measured variance of shrunk noise is `noise_gain`."""
    noise = torch.randn((400, 400), generator=torch.Generator().manual_seed(3)).double()

    for factor in (2, 4):
        assert noise_gain(factor) == pytest.approx(float(shrink(noise, factor).var()), rel=0.06)


def test_a_line_too_short_for_the_kernel_is_refused() -> None:
    """The error names the length, the least length and the scale."""
    with pytest.raises(ValueError, match="a line is 12 px long, expected at least 18 px"):
        resize(image(12, 40), 0.25, (3, 10))
