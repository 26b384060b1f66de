"""The baselines are the strongest of their kind, so that beating them means something."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from training.ground.baselines import bicubic, fit_gain_offset, fit_gaussian
from training.ground.quality import psnr


def _noise(seed: int, shape: tuple[int, int] = (40, 48)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.uniform(0, 255, shape), 1.0)


def test_bicubic_is_pillows_up_to_rounding() -> None:
    """The same cubic as Pillow's, but for its rounding and its integer tables."""
    lr = _noise(0).astype(np.uint8)
    pillow = np.asarray(Image.fromarray(lr).resize((4 * 48, 4 * 40), Image.Resampling.BICUBIC))

    assert float(np.abs(bicubic(lr, scale=4) - pillow).max()) < 1.1


def test_gain_and_offset_fit_undoes_a_linear_tone() -> None:
    """The fit recovers the reference exactly; a constant image becomes the reference's mean."""
    reference = _noise(1)

    assert float(np.abs(fit_gain_offset(0.3 * reference + 40, reference) - reference).max()) < 1e-9
    constant = fit_gain_offset(np.full(reference.shape, 7.0), reference)
    assert constant == pytest.approx(np.full(reference.shape, reference.mean()))


def test_gain_and_offset_fit_is_the_least_squares_one() -> None:
    """No nearby gain or offset is better."""
    reference, image = _noise(2), _noise(2) + 0.5 * _noise(3)
    best = psnr(fit_gain_offset(image, reference), reference)
    gain, offset = np.polyfit(image.ravel(), reference.ravel(), 1)

    for gain_step, offset_step in [(0.01, 0), (-0.01, 0), (0, 0.5), (0, -0.5)]:
        other = (gain + gain_step) * image + offset + offset_step
        assert psnr(other, reference) < best


def test_gaussian_search_finds_the_blur() -> None:
    """A reference that is the blurred image is matched at its sigma, tone included."""
    image = _noise(4, (96, 96))
    reference = 0.7 * ndimage.gaussian_filter(image, 1.5) + 12

    fitted, sigma_px = fit_gaussian(image, reference)

    assert 1.5 == sigma_px
    assert psnr(fitted, reference) > 80


def test_gaussian_search_may_choose_no_blur() -> None:
    """A perfect image is left as it is, so the row never falls below the fit alone."""
    image = _noise(5)

    fitted, sigma_px = fit_gaussian(image, image)

    assert 0.0 == sigma_px
    assert fitted == pytest.approx(image)
