"""Flags: what a graph can say of its own answer without the truth."""

import pytest
import torch

from bundle_format.bundle import FLAGS
from export.quality_flags import QualityFlags

SCALE = 4


def _tile(seed: int = 0) -> torch.Tensor:
    """Lines and noise, (1, 1, 64, 64) in [0, 1]."""
    torch.manual_seed(seed)
    x = torch.arange(64.0)
    lines = 0.4 + 0.2 * torch.sign(torch.sin(x * 0.6))
    return (lines.expand(1, 1, 64, 64) + 0.02 * torch.randn(1, 1, 64, 64)).clamp(0, 1)


def _enlarged(lr: torch.Tensor) -> torch.Tensor:
    return lr.repeat_interleave(SCALE, 2).repeat_interleave(SCALE, 3)


def _flags(lr: torch.Tensor, sr: torch.Tensor) -> dict[str, float]:
    return dict(zip(FLAGS, _judge(lr, sr)[0].tolist(), strict=True))


def _judge(lr: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
    return QualityFlags(scale=SCALE, trust=None)(lr, sr, sr.clamp(0, 1))


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.6, 0.1), (1.4, -0.1)])
def test_the_same_structure_in_any_tone_is_consistent(gain: float, offset: float) -> None:
    """Fast and slow scans differ in tone: that is no loss of structure."""
    lr = _tile()

    flags = _flags(lr, (gain * _enlarged(lr) + offset).clamp(0.01, 0.99))

    assert flags["consistency"] > 0.97
    assert flags["consistency_worst"] > 0.93
    assert 0 == flags["non_finite"] == flags["saturated"]


def test_flat_tiles_agree_in_spite_of_their_noise() -> None:
    """Noise that the answer has lost is not structure that it has lost."""
    torch.manual_seed(0)
    film = torch.full((1, 1, 64, 64), 0.3)
    noisy = film + 0.022 * torch.randn_like(film)

    flags = _flags(noisy, _enlarged(film) + 0.01 * torch.randn(1, 1, 256, 256))

    assert flags["consistency"] > 0.8
    assert flags["consistency_worst"] > 0.6


def test_lost_structure_is_seen_in_one_place_only() -> None:
    """A window without its lines lowers the worst value far, the mean little."""
    lr = _tile()
    sr = _enlarged(lr)
    sr[:, :, 80:160, 80:160] = sr.mean()

    flags = _flags(lr, sr)

    assert flags["consistency_worst"] < 0.3
    assert flags["consistency"] > 0.75


def test_unrelated_and_inverted_structure() -> None:
    """Another pattern correlates little, the inverse one negatively."""
    lr = _tile()

    assert _flags(lr, _enlarged(lr.transpose(2, 3)))["consistency"] < 0.3
    assert _flags(lr, 1 - _enlarged(lr))["consistency"] < -0.8


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_that_is_no_number_is_counted(value: float) -> None:
    """In one tile of two, in one LR pixel of 4,096; the other tile is not touched."""
    lr = _tile().repeat(2, 1, 1, 1)
    sr = _enlarged(lr)
    sr[1, 0, 130, 7] = value

    flags = _judge(lr, sr)

    assert 0 == float(flags[0, 0])
    assert pytest.approx(1 / 64**2) == float(flags[1, 0])
    assert float(flags[0, 2]) > 0.97


def test_cut_off_greys_are_counted_by_lr_pixel() -> None:
    """A quarter of the tile beyond white is a quarter saturated; touching white is not."""
    lr = _tile()
    sr = _enlarged(lr)
    sr[:, :, :128, :128] = 1.2
    sr[:, :, 128:, 128:] = 1.0

    assert 0.25 == _flags(lr, sr)["saturated"]
