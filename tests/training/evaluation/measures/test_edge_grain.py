"""Grain along edges against grain of flats: on pictures whose ratio is known."""

import numpy as np
import pytest

from training.evaluation.measures.edge_grain import edge_grain

SIDE_PX = 320
ANGLES_DEG = (0, 22, 45, 90)


def _lines(angle_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """Return straight lines with sharp edges, and how near each pixel is to one (0 to 1)."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    turn = np.deg2rad(angle_deg)
    distance = np.abs((x * np.cos(turn) + y * np.sin(turn)) % 96 - 48) - 24
    return 60 + 100 / (1 + np.exp(distance / 0.8)), np.exp(-((distance / 4) ** 2) / 2)


def _grain(sigma: float = 3.0) -> np.ndarray:
    return sigma * np.random.default_rng(0).standard_normal((SIDE_PX, SIDE_PX))


@pytest.mark.parametrize("angle_deg", ANGLES_DEG)
def test_a_clean_edge_in_even_grain_is_one(angle_deg: float) -> None:
    """The edge's own sharpness is no grain, in whatever direction it runs."""
    scene, _ = _lines(angle_deg)

    assert 1.0 == pytest.approx(edge_grain(scene + _grain()).ratio, abs=0.03)


@pytest.mark.parametrize("angle_deg", ANGLES_DEG)
def test_a_sandy_edge_is_above_and_a_smooth_one_below(angle_deg: float) -> None:
    """Twice the grain at the edge is well over the limit; a fifth of it well under."""
    scene, near = _lines(angle_deg)

    assert edge_grain(scene + _grain() * (1 + near)).ratio > 1.5
    assert edge_grain(scene + _grain() * (1 - 0.8 * near)).ratio < 0.7


def test_grain_that_grows_with_grey_is_even() -> None:
    """Bright lines of more grain than dark spaces are compared with flats of their own grey."""
    scene, _ = _lines(10)
    grain = _grain(1.0) * np.sqrt(4 + 0.15 * scene)

    assert 1.0 == pytest.approx(edge_grain(scene + grain).ratio, abs=0.05)


def test_small_dots_are_no_grain() -> None:
    """A curved outline in even grain is 1 as well."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    radius = np.hypot(x % 64 - 32, y % 64 - 32)

    result = edge_grain(60 + 100 / (1 + np.exp((radius - 14) / 0.8)) + _grain())

    assert 1.0 == pytest.approx(result.ratio, abs=0.05)
    assert result.edge_px > 10_000


def test_without_edges_or_grain_there_is_no_ratio() -> None:
    """A blank film has nothing to measure along; a drawing nothing to compare with."""
    assert np.isnan(edge_grain(100 + _grain()).ratio)
    assert np.isnan(edge_grain(_lines(0)[0]).ratio)
    assert np.isnan(edge_grain(np.zeros((64, 64), np.uint8)).ratio)
