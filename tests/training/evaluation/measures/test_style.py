"""Style flips: found where bright and dark swap or the tone changes, and nowhere else."""

import numpy as np
import pytest
from scipy import ndimage

from tests.training.evaluation.scenes import film, grey, lines
from training.evaluation.measures.style import compare_style

HR = grey(lines(), noise=4.0)


def test_sharpness_grain_and_gain_are_not_style() -> None:
    """A blurred, grainy or slightly darker picture has HR's style, and HR itself does."""
    blurred = np.asarray(ndimage.gaussian_filter(HR, 3.0), np.uint8)
    grainy = grey(lines(), noise=12.0, seed=5)
    darker = grey(0.9 * lines(), noise=4.0)

    for picture in (HR, blurred, grainy, darker):
        style = compare_style(picture, HR)
        assert not style.is_flipped
        assert style.correlation is not None
        assert style.correlation > 0.9
    assert 0 == compare_style(HR, HR).tone_grey


def test_an_inverted_picture_of_the_same_greys_is_a_flip() -> None:
    """Its histogram hardly differs: only the sign of the contrast shows it."""
    inverted = np.clip(140 - HR.astype(int), 0, 255).astype(np.uint8)

    style = compare_style(inverted, HR)

    assert style.correlation == pytest.approx(-1.0, abs=1e-3)
    assert (True, False, True) == (style.is_inverted, style.is_other_tone, style.is_flipped)


def test_another_tone_is_a_flip_from_ten_grey_levels_on() -> None:
    """The distance of tones is the shift itself."""
    for shift, is_flip in ((9, False), (11, True)):
        style = compare_style(HR + np.uint8(shift), HR)
        assert float(shift) == pytest.approx(style.tone_grey, abs=1e-4)
        assert (False, is_flip, is_flip) == (
            style.is_inverted,
            style.is_other_tone,
            style.is_flipped,
        )


def test_a_blank_tile_has_no_sign() -> None:
    """Noise correlates with noise by chance; a picture that lost its contrast is not inverted."""
    blank = grey(film(blobs=[]), noise=4.0)
    other = grey(film(blobs=[]), noise=4.0, seed=9)

    assert compare_style(other, blank).correlation is None
    assert not compare_style(other, blank).is_flipped
    lost = compare_style(np.full_like(HR, round(float(HR.mean()))), HR)
    assert 0.0 == lost.correlation
    assert not lost.is_inverted
