"""Contrast ratio and local correlation of defects with known answers."""

import numpy as np
import pytest

from tests.training.evaluation.scenes import film, grey, lines
from training.evaluation.folders.benchmark import Defect
from training.evaluation.measures.structure import local_correlation_in, measure_structure

DEFECT = Defect(
    number=1,
    kind="particle",
    group="planted",
    box_hr_px=(92, 92, 109, 109),
    size_hr_px=17,
    contrast_to_noise=9.0,
)


def _mask() -> np.ndarray:
    y, x = np.ogrid[:256, :256]
    return ((x - 100) ** 2 + (y - 100) ** 2 <= 64).astype(np.uint8)


def _blob(amplitude: float, *, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    return grey(film(blobs=[(100, 100, amplitude)]), noise=noise, seed=seed)


@pytest.mark.parametrize("amplitude", [40.0, 80.0, 120.0, 0.0, -40.0])
def test_contrast_ratio_is_the_share_of_contrast_that_is_left(amplitude: float) -> None:
    """Half the contrast gives 0.5, none 0, an inverted one a negative ratio."""
    truth = _blob(80.0)

    [found] = measure_structure(_blob(amplitude), truth, _mask(), (DEFECT,))

    assert amplitude / 80.0 == pytest.approx(found.contrast_ratio, abs=0.02)


def test_contrast_ratio_ignores_offset_and_neighbouring_defects() -> None:
    """A brighter picture has the same ratio; another defect in the ring is not background."""
    truth = _blob(80.0)
    neighbour = _mask()
    neighbour[112:118, 96:104] = 2
    image = truth.copy()
    image[112:118, 96:104] = 255

    [brighter] = measure_structure(truth + 20, truth, _mask(), (DEFECT,))
    [beside] = measure_structure(image, truth, neighbour, (DEFECT,))
    [unmarked] = measure_structure(image, truth, _mask(), (DEFECT,))

    assert 1.0 == pytest.approx(brighter.contrast_ratio)
    assert 1.0 == pytest.approx(beside.contrast_ratio)
    assert unmarked.contrast_ratio < 0.9


def test_a_ratio_of_noise_is_not_given() -> None:
    """Where the truth has hardly any contrast of its own there is no ratio."""
    [found] = measure_structure(_blob(60.0), _blob(1.0, noise=3.0), _mask(), (DEFECT,))

    assert np.isnan(found.contrast_ratio)


def test_local_correlation_falls_as_a_defect_is_lost() -> None:
    """1 for the same picture up to tone, near 0 for a lost defect, -1 for its negative."""
    truth = _blob(80.0, noise=3.0, seed=1)
    same = (0.7 * truth + 30).astype(np.uint8)
    lost = _blob(0.0, noise=3.0, seed=2)

    assert local_correlation_in(same, truth, DEFECT.box_hr_px) == pytest.approx(1.0, abs=1e-2)
    assert local_correlation_in(255 - truth, truth, DEFECT.box_hr_px) == pytest.approx(-1.0)
    assert abs(local_correlation_in(lost, truth, DEFECT.box_hr_px)) < 0.4
    assert 0.0 == local_correlation_in(np.full_like(truth, 7), truth, DEFECT.box_hr_px)


def test_local_correlation_sees_the_box_and_eight_pixels_around() -> None:
    """What differs farther away, beyond the filter's reach, does not count."""
    truth = grey(lines(), noise=2.0)
    changed = truth.copy()
    changed[:, :70] = 255 - changed[:, :70]
    outside, inside = (92, 92, 109, 109), (80, 92, 97, 109)

    assert local_correlation_in(changed, truth, outside) == pytest.approx(1.0)
    assert local_correlation_in(changed, truth, inside) < 1 - 1e-4


def test_a_defect_at_the_corner_is_measured() -> None:
    """Box and ring are cut at the border, not wrapped around it."""
    y, x = np.ogrid[:256, :256]
    truth = grey(60 + 80 * np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 50.0))
    mask = ((x - 3) ** 2 + (y - 3) ** 2 <= 64).astype(np.uint8)
    corner = Defect(
        number=1,
        kind="particle",
        group="planted",
        box_hr_px=(0, 0, 12, 12),
        size_hr_px=12,
        contrast_to_noise=9.0,
    )

    [found] = measure_structure(truth, truth, mask, (corner,))

    assert (1.0, 1.0) == pytest.approx((found.contrast_ratio, found.correlation))
