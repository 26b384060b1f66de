"""Edges of gratings that were moved, widened and roughened by known amounts."""

import numpy as np
import pytest
from scipy import ndimage

from tests.training.evaluation.scenes import film, grey, lines
from training.evaluation.measures.metrology import (
    SEARCH_PX,
    EdgeTruth,
    find_true_edges,
    measure_edges,
)


@pytest.fixture(scope="module")
def truth() -> EdgeTruth:
    """Return the edges of the plain grating."""
    found = find_true_edges(grey(lines()))
    assert found is not None
    return found


def test_true_edges_are_where_they_were_drawn(truth: EdgeTruth) -> None:
    """Sixteen edges a profile, 32 profiles, at 8 and 24 px in each period of 32."""
    assert not truth.is_lying
    assert 32 * 16 == truth.places_px.size
    places = truth.places_px % 32
    assert places[truth.is_rising] == pytest.approx(8.0, abs=0.05)
    assert places[~truth.is_rising] == pytest.approx(24.0, abs=0.05)


@pytest.mark.parametrize("shift_px", [-3.3, 0.4, 2.0])
@pytest.mark.parametrize("is_lying", [False, True])
def test_a_shift_is_reported_apart(shift_px: float, is_lying: bool) -> None:
    """A moved grating has its shift, and no placement error once that is off."""
    turned = np.transpose if is_lying else np.asarray
    edges = find_true_edges(grey(turned(lines())))
    assert edges is not None

    found = measure_edges(grey(turned(lines(offset_px=shift_px))), edges)

    assert is_lying == edges.is_lying
    assert shift_px == pytest.approx(found.shift_px, abs=0.05)
    assert found.placement_px < 0.05
    assert 0.0 == pytest.approx(found.cd_bias_px, abs=0.05)


@pytest.mark.parametrize("bias_px", [-1.6, 1.0])
def test_wider_lines_have_a_bias_and_no_shift(truth: EdgeTruth, bias_px: float) -> None:
    """Each edge lies half the bias from its place."""
    found = measure_edges(grey(lines(width_px=16 + bias_px)), truth)

    assert bias_px == pytest.approx(found.cd_bias_px, abs=0.06)
    assert abs(bias_px) / 2 == pytest.approx(found.placement_px, abs=0.05)
    assert 0.0 == pytest.approx(found.shift_px, abs=0.05)


def test_tone_does_not_move_edges_and_noise_hardly_does(truth: EdgeTruth) -> None:
    """Another gain and offset give the same edges; noise of 4 levels moves them by a tenth."""
    toned = measure_edges(grey(0.5 * lines() + 70), truth)
    noisy = measure_edges(grey(lines(), noise=4.0), truth)

    assert toned.placement_px < 0.05
    assert toned.cd_bias_px == pytest.approx(0.0, abs=0.06)
    assert 0.005 < noisy.placement_px < 0.15


def test_an_inverted_picture_has_the_same_edges(truth: EdgeTruth) -> None:
    """Its lines are dark: the levels say so, and the places stay."""
    found = measure_edges(255 - grey(lines()), truth)

    assert 0.0 == found.lost_share
    assert found.placement_px < 0.05


def test_lost_lines_are_counted(truth: EdgeTruth) -> None:
    """A quarter of the picture without lines loses a quarter of its edges."""
    picture = grey(lines())
    picture[:64] = 40

    found = measure_edges(picture, truth)

    assert 0.25 == pytest.approx(found.lost_share)
    assert found.placement_px < 0.05


def test_a_picture_without_edges_gives_no_figures(truth: EdgeTruth) -> None:
    """All edges are lost, as far away as can be."""
    found = measure_edges(np.full((256, 256), 80, np.uint8), truth)

    assert 1.0 == found.lost_share
    assert SEARCH_PX == found.placement_px
    assert np.isnan([found.cd_bias_px, found.shift_px]).all()


def test_noise_is_not_taken_for_edges(truth: EdgeTruth) -> None:
    """Where space and line have one level, no crossing counts."""
    assert 1.0 == measure_edges(grey(film(blobs=[]), noise=4.0), truth).lost_share


def test_roughness_is_kept_smoothed_or_added() -> None:
    """Half the amplitude of a wavy edge is half the roughness."""
    rng = np.random.default_rng(0)
    waves = ndimage.gaussian_filter1d(rng.standard_normal(256), 6.0)
    waves *= 1.5 / waves.std()

    def wavy(share: float) -> np.ndarray:
        rows = [
            np.interp(np.arange(256.0), np.arange(256.0) + share * w, lines()[0]) for w in waves
        ]
        return grey(np.array(rows))

    edges = find_true_edges(wavy(1.0))
    assert edges is not None

    assert 1.0 == pytest.approx(measure_edges(wavy(1.0), edges).roughness_ratio)
    assert 0.5 == pytest.approx(measure_edges(wavy(0.5), edges).roughness_ratio, abs=0.05)
    assert 1.5 == pytest.approx(measure_edges(wavy(1.5), edges).roughness_ratio, abs=0.1)


def test_no_lines_no_truth() -> None:
    """A blank film has no edges to measure."""
    assert find_true_edges(grey(film(blobs=[]))) is None
    assert find_true_edges(grey(film(blobs=[]), noise=1.0)) is None
