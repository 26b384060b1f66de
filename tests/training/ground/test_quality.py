"""Quality measures against slow or known values."""

import numpy as np
import pytest

from training.ground.quality import gmsd, local_correlation, noise_sigma, psnr, ssim


def _image(seed: int, side_px: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side_px, side_px)).astype(np.uint8)


def test_psnr_of_a_known_error() -> None:
    """An error of one grey level everywhere is 48.13 dB; equal images are infinite."""
    image = np.full((8, 8), 100, dtype=np.uint8)

    assert psnr(image + 1, image) == pytest.approx(48.1308, abs=1e-4)
    assert float("inf") == psnr(image, image)


def test_psnr_does_not_wrap_around() -> None:
    """uint8 differences are signed: 0 against 255 is the largest error, 0 dB."""
    black, white = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)

    assert psnr(black, white) == pytest.approx(0.0)


def test_ssim_equals_a_slow_version() -> None:
    """Window by window, as the paper defines it."""
    x, y = _image(0), _image(1)
    y = (0.6 * x + 0.4 * y).astype(np.uint8)
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(taps, taps) / taps.sum() ** 2
    scores = []
    for row in range(5, 19):
        for column in range(5, 19):
            a = x[row - 5 : row + 6, column - 5 : column + 6].astype(float)
            b = y[row - 5 : row + 6, column - 5 : column + 6].astype(float)
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a = (weights * (a - mean_a) ** 2).sum()
            var_b = (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 2.55**2, 7.65**2
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            scores.append(luminance * (2 * covariance + c2) / (var_a + var_b + c2))

    assert ssim(x, y) == pytest.approx(np.mean(scores), abs=1e-9)
    assert ssim(x, x) == pytest.approx(1.0)


def test_local_correlation_finds_a_lost_structure() -> None:
    """It is 1 where images agree up to tone, and falls where a blob is missing in one of them."""
    y, x = np.mgrid[:96, :96]
    stripes = 60 * np.sin(x / 5.0) + 100
    blob = 200 * np.exp(-((x - 70) ** 2 + (y - 70) ** 2) / 30.0)

    local, deviation = local_correlation(1.3 * stripes - 20, stripes + blob)

    assert local[20, 20] == pytest.approx(1.0, abs=1e-3)
    assert local[70, 70] < 0.9
    assert deviation[70, 70] > deviation[20, 20]


@pytest.mark.parametrize("sigma", [2.0, 6.0])
def test_noise_estimate_is_right_beside_edges(sigma: float) -> None:
    """Lines and ramps hardly move the estimate, which is good to a few per cent."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:240, :240]
    clean = 60.0 + 0.2 * y + 80.0 * ((x // 30) % 2)
    image = np.clip(np.rint(clean + rng.normal(0, sigma, clean.shape)), 0, 255).astype(np.uint8)

    assert noise_sigma(image) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("measure", [psnr, ssim, local_correlation])
def test_different_sizes_are_refused(measure: object) -> None:
    """No silent broadcasting."""
    with pytest.raises(ValueError, match=r"one size needed, got \(24, 24\) and \(12, 12\)"):
        measure(_image(0), _image(0, 12))  # pyright: ignore[reportCallIssue]


def test_ssim_needs_room_for_its_window() -> None:
    """Below 11 pixels there is no full window."""
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(_image(0, 10), _image(1, 10))


def test_gmsd_equals_a_slow_version() -> None:
    """Pixel by pixel, as the paper defines it; of equal and of evenly brighter images it is 0."""
    x, y = _image(0, 16), _image(1, 16)
    kernel = np.array([[1, 0, -1]] * 3) / 3
    magnitudes = []
    for image in (x, y):
        coarse = np.array(
            [
                [image[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() for c in range(8)]
                for r in range(8)
            ]
        )
        magnitudes.append(
            [
                np.hypot((part * kernel).sum(), (part * kernel.T).sum())
                for r in range(1, 7)
                for c in range(1, 7)
                for part in [coarse[r - 1 : r + 2, c - 1 : c + 2]]
            ]
        )
    similarity = [
        (2 * a * b + 170) / (a * a + b * b + 170) for a, b in zip(*magnitudes, strict=True)
    ]

    assert gmsd(x, y) == pytest.approx(np.std(similarity), abs=1e-12)
    assert gmsd(x, y) > 0.1
    assert 0.0 == gmsd(x, x)
    assert gmsd(x.astype(float) + 7, x) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="at least 6x6 pixels"):
        gmsd(x[:4], y[:4])
