"""LR consistency against a slow version and its properties."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from training.losses.consistency import ConsistencyLoss, downscale, lr_consistency
from training.losses.filters import gaussian_taps, separable_blur


def scene(side_px: int = 192, seed: int = 0) -> torch.Tensor:
    """Return wavy lines with a little grain at HR, (1, 1, side, side) float64."""
    y, x = torch.meshgrid(*(torch.arange(side_px, dtype=torch.float64),) * 2, indexing="ij")
    lines = torch.tanh(4 * torch.sin((x + 5 * torch.sin(y / 31)) * 2 * torch.pi / 37))
    grain = torch.randn(
        side_px, side_px, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return (0.45 + 0.15 * lines + 0.01 * grain)[None, None]


def compared(
    sr: torch.Tensor,
    lr: torch.Tensor,
    *,
    scale: int,
    taps: torch.Tensor | None = None,
    window_px: int = 11,
    worst_share: float = 0.05,
) -> ConsistencyLoss:
    """Compare a fine image, blurred by some taps, with a coarse one."""
    blurred = sr if taps is None else separable_blur(sr, taps)
    coarse = downscale(blurred, scale=scale)
    return lr_consistency(coarse, lr, window_px=window_px, worst_share=worst_share)


def test_map_equals_a_slow_version() -> None:
    """Window by window in NumPy, cut off at the border; also the mean and the worst places."""
    generator = torch.Generator().manual_seed(0)
    sr = torch.rand(2, 1, 24, 32, generator=generator, dtype=torch.float64)
    lr = torch.rand(2, 1, 12, 16, generator=generator, dtype=torch.float64)

    loss = compared(sr, lr, scale=2, window_px=5, worst_share=0.1)

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
    lr = downscale(separable_blur(hr[..., 4:-4, 4:-4], gaussian_taps(2.0)), scale=4)
    same, shifted, other_grain = (
        x[..., 4:-4, 4 + by : 196 + by] for x, by in ((hr, 0), (hr, 4), (scene(200, seed=1), 0))
    )

    def mean(sr: torch.Tensor) -> float:
        return float(compared(sr, lr, taps=gaussian_taps(2.0), scale=4).mean)

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
    lr = downscale(defect, scale=4)

    loss = compared(hr, lr, scale=4)

    row, column = np.unravel_index(int(loss.map.argmax()), (48, 48))
    assert float(loss.worst) > 5 * float(loss.mean)
    assert abs(row - 24) <= 5
    assert abs(column - 16.5) <= 5


def test_flat_places_agree() -> None:
    """Two flat images of different noise are not compared by their noise."""
    generator = torch.Generator().manual_seed(0)
    sr = 0.5 + 0.01 * torch.randn(1, 1, 64, 64, generator=generator)
    lr = 0.3 + 0.01 * torch.randn(1, 1, 16, 16, generator=generator)

    assert float(compared(sr, lr, scale=4).worst) < 0.1


def test_gradient_is_right_and_reaches_only_the_output() -> None:
    """Checked by finite differences in float64 of every part; the LR image is data."""
    sr = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    lr = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    taps = gaussian_taps(0.6)

    def parts(image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(compared(image, lr, taps=taps, scale=2, window_px=3))

    assert torch.autograd.gradcheck(parts, (sr,))
    parts(sr)[0].backward()
    assert lr.grad is None


def test_autocast_computes_in_float32() -> None:
    """bfloat16 products would be off by a per cent."""
    sr, lr = scene(64).float(), scene(16, seed=3).float()

    exact = compared(sr, lr, taps=gaussian_taps(1.0), scale=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same = compared(sr, lr, taps=gaussian_taps(1.0), scale=4)

    torch.testing.assert_close(exact.map, same.map)


def test_downscale_is_the_area_mean() -> None:
    """A point spreads over its LR pixel alone."""
    point = torch.zeros(1, 1, 16, 16)
    point[0, 0, 8, 8] = 16.0

    coarse = downscale(point, scale=4)

    assert 1.0 == float(coarse[0, 0, 2, 2])
    assert 1.0 == float(coarse.sum())


def test_bad_input_is_refused() -> None:
    """Sizes that do not divide, another LR size, an empty share."""
    sr, lr = torch.rand(1, 1, 16, 16), torch.rand(1, 1, 4, 4)
    with pytest.raises(ValueError, match="15x16 px cannot be divided by a scale of 4"):
        downscale(sr[:, :, :15], scale=4)
    with pytest.raises(ValueError, match="two tensors of one shape"):
        compared(sr, lr, scale=2)
    with pytest.raises(ValueError, match=r"in \(0, 1\], got 0"):
        compared(sr, lr, scale=4, worst_share=0.0)
    with pytest.raises(ValueError, match=r"LR images must be grey"):
        compared(sr, functional.pad(lr, (0, 0, 0, 0))[0], scale=4)
