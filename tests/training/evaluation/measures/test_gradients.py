"""Gradient maps: magnitude, thinness and flat areas of pictures with known slopes."""

import numpy as np
import pytest
from scipy import ndimage

from tests.training.evaluation.scenes import film, grey, lines
from training.evaluation.measures.gradients import (
    GRADIENT_BINS,
    flat_area,
    gradient_magnitude,
    histogram_quantiles,
    measure_gradients,
)


def test_magnitude_of_a_ramp() -> None:
    """Three levels a pixel along x and four along y are five levels, over 255."""
    y, x = np.mgrid[:20, :20]
    ramp = (3 * x + 4 * y).astype(np.uint8)

    assert gradient_magnitude(ramp) == pytest.approx(np.full((20, 20), 5 / 255), abs=1e-6)


def test_a_blur_makes_edges_weaker_and_wider() -> None:
    """The 99 % quantile falls; fewer of the strong pixels are ridges; grain in flats goes."""
    sharp = grey(lines(), noise=3.0)
    blurred = np.asarray(ndimage.gaussian_filter(sharp, 3.0), dtype=np.uint8)
    flat = flat_area(sharp)

    a, b = measure_gradients(sharp, flat), measure_gradients(blurred, flat)

    assert sharp.size == a.histogram.sum()
    assert (
        histogram_quantiles(a.histogram, (0.99,))[0]
        > 2 * histogram_quantiles(b.histogram, (0.99,))[0]
    )
    assert a.thinness > b.thinness
    assert a.flat_mean > 1.5 * b.flat_mean


def test_quantiles_equal_numpys() -> None:
    """To the width of a bin."""
    values = np.random.default_rng(0).uniform(0, 0.5, 20_000)
    counts, _ = np.histogram(values, bins=GRADIENT_BINS, range=(0, 0.5))

    assert np.quantile(values, (0.5, 0.95)) == pytest.approx(
        histogram_quantiles(counts, (0.5, 0.95)), abs=0.5 / GRADIENT_BINS
    )


def test_a_one_pixel_ridge_is_all_ridge() -> None:
    """Slopes that peak on one row count fully; a plateau of slope counts as ridge too."""
    step = np.zeros((60, 60), np.uint8)
    step[:, 30:] = 100
    soft = np.clip((np.arange(60) - 20) * 5, 0, 100).astype(np.uint8)[None].repeat(60, 0)

    assert 1.0 == pytest.approx(measure_gradients(step, step == 0).thinness)
    assert 0.8 < measure_gradients(soft, soft == 0).thinness


def test_the_flat_half_avoids_edges() -> None:
    """On a grating the flat pixels lie between the edges."""
    flat = flat_area(grey(lines()))
    columns = flat.mean(axis=0)

    assert 0.5 == pytest.approx(flat.mean(), abs=0.1)
    assert columns[[8, 24, 40]].max() < 0.1
    assert flat_area(grey(film(blobs=[]))).all()
