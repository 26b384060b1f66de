"""Bands of registration, and the noise that they pass."""

import numpy as np
import pytest

from training.registration.filters import (
    blurred_band,
    enlarged,
    enlargement_noise_gain,
    hr_noise_variance,
    lr_noise_variance,
    sharp_band,
)


@pytest.mark.parametrize("scale", [2, 4])
def test_noise_of_the_bands_is_predicted(scale: int, rng: np.random.Generator) -> None:
    """White noise through the real filters has the variance that the gains say, within 10 %."""
    lr = np.clip(np.rint(128 + 8 * rng.standard_normal((160, 160))), 0, 255).astype(np.uint8)
    side = 160 * scale
    hr = np.clip(np.rint(128 + 8 * rng.standard_normal((side, side))), 0, 255).astype(np.uint8)
    u = enlarged(lr, scale)
    inner = np.s_[16 * scale : -16 * scale, 16 * scale : -16 * scale]

    assert lr_noise_variance(lr, scale) == pytest.approx(
        blurred_band(u, scale)[inner].var(), rel=0.1
    )
    assert hr_noise_variance(hr, scale) == pytest.approx(
        blurred_band(hr, scale)[inner].var(), rel=0.1
    )
    assert 64 * enlargement_noise_gain(scale) == pytest.approx(
        sharp_band(u, scale)[inner].var(), rel=0.1
    )


def test_bands_have_no_background() -> None:
    """A slope of grey vanishes away from the border."""
    slope = np.tile(np.linspace(0, 200, 400, dtype=np.float32), (400, 1))
    for band in (sharp_band, blurred_band):
        assert np.abs(band(slope, 4)[80:-80, 80:-80]).max() < 0.01
