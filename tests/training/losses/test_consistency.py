"""LR consistency against a slow version and its properties."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from training.losses.consistency import downscale, lr_consistency
from training.losses.filters import gaussian_taps


def scene(side_px: int = 192, seed: int = 0) -> torch.Tensor:
    """Return wavy lines with a little grain at HR, (1, 1, side, side) float64."""
    y, x = torch.meshgrid(*(torch.arange(side_px, dtype=torch.float64),) * 2, indexing="ij")
    lines = torch.tanh(4 * torch.sin((x + 5 * torch.sin(y / 31)) * 2 * torch.pi / 37))
    grain = torch.randn(
        side_px, side_px, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return (0.45 + 0.15 * lines + 0.01 * grain)[None, None]


def test_map_equals_a_slow_version() -> None:
    """Window by window in NumPy, cut off at the border; also the mean and the worst places."""
    generator = torch.Generator().manual_seed(0)
    sr = torch.rand(2, 1, 24, 32, generator=generator, dtype=torch.float64)
    lr = torch.rand(2, 1, 12, 16, generator=generator, dtype=torch.float64)

    loss = lr_consistency(sr, lr, kernel=None, scale=2, window_px=5, worst_share=0.1, eps=1e-3)

    coarse = sr.numpy().reshape(2, 12, 2, 16, 2).mean((2, 4))
    expected = np.empty((2, 12, 16))
    for image, row, column in np.ndindex(2, 12, 16):
        rows = slice(max(row - 2, 0), row + 3)
        columns = slice(max(column - 2, 0), column + 3)
        x, y = coarse[image, rows, columns], lr.numpy()[image, 0, rows, columns]
        covariance = ((x - x.mean()) * (y - y.mean())).mean()
        expected[image, row, column] = 1 - (covariance + 1e-3) / np.sqrt(
            (x.var() + 1e-3) * (y.var() + 1e-3)
        )
    worst = np.sort(expected.reshape(2, -1), axis=1)[:, -19:]
    np.testing.assert_allclose(loss.map[:, 0].numpy(), expected, atol=1e-9)
    assert float(loss.mean) == pytest.approx(expected.mean())
    assert float(loss.worst) == pytest.approx(worst.mean())


def test_appearance_is_free_and_structure_is_not() -> None:
    """Gain, tone and new grain cost much less than a shift by one LR pixel; inversion about 2."""
    hr = scene(200)
    lr = downscale(hr[..., 4:-4, 4:-4], kernel=gaussian_taps(2.0), scale=4)
    same, shifted, other_grain = (
        x[..., 4:-4, 4 + by : 196 + by] for x, by in ((hr, 0), (hr, 4), (scene(200, seed=1), 0))
    )

    def mean(sr: torch.Tensor) -> float:
        return float(lr_consistency(sr, lr, kernel=gaussian_taps(2.0), scale=4).mean)

    assert mean(same) == pytest.approx(0.0, abs=1e-6)
    shift = mean(shifted)
    assert shift > 0.02
    assert mean(0.5 * same + 0.2) < 0.2 * shift
    assert mean(same**0.6) < 0.2 * shift
    assert mean(other_grain) < 0.2 * shift
    assert mean(1 - same) > 1.8


def test_a_lost_defect_shows_in_the_worst_places() -> None:
    """Erasing a small blob hardly moves the mean, moves the worst share, and the map says where."""
    hr = scene()
    defect = hr.clone()
    defect[..., 90:102, 60:72] += 0.3
    lr = downscale(defect, kernel=None, scale=4)

    loss = lr_consistency(hr, lr, kernel=None, scale=4)

    row, column = np.unravel_index(int(loss.map.argmax()), (48, 48))
    assert float(loss.worst) > 5 * float(loss.mean)
    assert abs(row - 24) <= 5
    assert abs(column - 16.5) <= 5


def test_saliency_weighs_the_mean() -> None:
    """All weight on one place gives that place's value; no weight at all gives no loss."""
    sr, lr = scene(64), scene(16, seed=3)
    weights = torch.zeros(1, 1, 16, 16)
    weights[0, 0, 3, 7] = 2.0

    loss = lr_consistency(sr, lr, kernel=None, scale=4, saliency=weights)
    none = lr_consistency(sr, lr, kernel=None, scale=4, saliency=torch.zeros(1, 1, 16, 16))

    assert float(loss.mean) == pytest.approx(float(loss.map[0, 0, 3, 7]))
    assert 0.0 == float(none.mean)


def test_flat_places_agree() -> None:
    """Two flat images of different noise are not compared by their noise."""
    generator = torch.Generator().manual_seed(0)
    sr = 0.5 + 0.01 * torch.randn(1, 1, 64, 64, generator=generator)
    lr = 0.3 + 0.01 * torch.randn(1, 1, 16, 16, generator=generator)

    assert float(lr_consistency(sr, lr, kernel=None, scale=4).worst) < 0.1


def test_gradient_is_right_and_reaches_only_the_output() -> None:
    """Checked by finite differences in float64 of every part; the LR image is data."""
    sr = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    lr = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    taps = gaussian_taps(0.6)

    def parts(image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(lr_consistency(image, lr, kernel=taps, scale=2, window_px=3))

    assert torch.autograd.gradcheck(parts, (sr,))
    parts(sr)[0].backward()
    assert lr.grad is None


def test_autocast_computes_in_float32() -> None:
    """bfloat16 products would be off by a per cent."""
    sr, lr = scene(64).float(), scene(16, seed=3).float()

    exact = lr_consistency(sr, lr, kernel=gaussian_taps(1.0), scale=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same = lr_consistency(sr, lr, kernel=gaussian_taps(1.0), scale=4)

    torch.testing.assert_close(exact.map, same.map)


def test_downscale_is_blur_then_area_mean() -> None:
    """A flat image keeps its grey; a point spreads by the kernel's own weights."""
    point = torch.zeros(1, 1, 16, 16)
    point[0, 0, 8, 8] = 16.0

    coarse = downscale(point, kernel=torch.tensor([0.25, 0.5, 0.25]), scale=4)

    # Columns and rows 7 | 8, 9 hold 0.25 | 0.5, 0.25 of it.
    expected = torch.tensor([[0.0625, 0.1875], [0.1875, 0.5625]])
    torch.testing.assert_close(coarse[0, 0, 1:3, 1:3], expected)
    assert float(coarse.sum()) == pytest.approx(1.0)


def test_bad_input_is_refused() -> None:
    """Sizes that do not divide, a kernel with a gain, another LR size, an empty share."""
    sr, lr = torch.rand(1, 1, 16, 16), torch.rand(1, 1, 4, 4)
    with pytest.raises(ValueError, match="15x16 px cannot be divided by a scale of 4"):
        downscale(sr[:, :, :15], kernel=None, scale=4)
    with pytest.raises(ValueError, match=r"sum to 1, got 3\.0"):
        downscale(sr, kernel=torch.ones(3), scale=4)
    with pytest.raises(ValueError, match="two tensors of one shape"):
        lr_consistency(sr, lr, kernel=None, scale=2)
    with pytest.raises(ValueError, match=r"in \(0, 1\], got 0"):
        lr_consistency(sr, lr, kernel=None, scale=4, worst_share=0.0)
    with pytest.raises(ValueError, match=r"LR images must be grey"):
        lr_consistency(sr, functional.pad(lr, (0, 0, 0, 0))[0], kernel=None, scale=4)
