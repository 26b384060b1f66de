"""Outlines lost and invented: bars of a known d' in noise, kept and erased."""

import numpy as np
import pytest

from training.evaluation.measures.coarse_view import area_mean
from training.evaluation.measures.outline_comparison import (
    OutlineComparison,
    Shown,
    lost_and_invented,
)

SIDE_PX = 96
SIGMA_GREY = 5.0
BACKGROUND_GREY = 90.0


def _noise(seed: int) -> np.ndarray:
    return SIGMA_GREY * np.random.default_rng(seed).standard_normal((SIDE_PX, SIDE_PX))


def _both_ways(lr: np.ndarray, seen: np.ndarray) -> tuple[OutlineComparison, OutlineComparison]:
    """Return what an answer lost of an LR tile, and what it invented."""
    return lost_and_invented(Shown.of(lr), seen)


def _bar(detectability: float, *, length: float, width: float, seed: int) -> np.ndarray:
    """Draw a bar somewhere, of the contrast that gives it this d' (see `visibility`)."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    turn = np.deg2rad(17.3 * seed)
    centre_x, centre_y = 46 + 1.3 * seed, 50 - 1.7 * seed
    along = (x - centre_x) * np.cos(turn) + (y - centre_y) * np.sin(turn)
    across = -(x - centre_x) * np.sin(turn) + (y - centre_y) * np.cos(turn)
    shape = np.clip(length / 2 - np.abs(along) + 0.5, 0, 1)
    shape *= np.clip(width / 2 - np.abs(across) + 0.5, 0, 1)
    return detectability * SIGMA_GREY / np.sqrt((shape**2).sum()) * shape


def _grey(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("length", "width"), [(40, 3), (20, 4), (40, 8), (5, 5)])
def test_an_erased_bar_is_caught_and_a_kept_one_is_not(length: float, width: float) -> None:
    """At d' 14 a faint bar must stay: erased, halved too much, or kept at a shifted tone."""
    for seed in (2, 3, 4):
        bar = _bar(14.0, length=length, width=width, seed=seed)
        lr = _grey(BACKGROUND_GREY + bar + _noise(seed))

        erased, _ = _both_ways(lr, np.full(lr.shape, BACKGROUND_GREY))
        faint, _ = _both_ways(lr, BACKGROUND_GREY + 0.2 * bar)
        kept, invented = _both_ways(lr, 20 + BACKGROUND_GREY + bar)

        assert 1 <= len(erased.lost)
        assert 11 <= erased.lost[0].detectability < 24
        assert abs(erased.lost[0].kept_share) < 0.1
        assert 1 <= len(faint.lost)
        assert ((), ()) == (kept.lost, invented.lost)


def test_the_place_of_a_loss_lies_on_the_bar() -> None:
    """What is listed can be looked at: its middle within the bar, no longer than that."""
    lr = _grey(BACKGROUND_GREY + _bar(25.0, length=40, width=3, seed=0) + _noise(0))

    [loss], _ = (item.lost for item in _both_ways(lr, np.full(lr.shape, BACKGROUND_GREY)))

    assert abs(loss.y_px - 50) <= 3
    assert abs(loss.x_px - 46) <= 20
    assert 20 < loss.length_px < 55


def test_a_bar_that_nobody_could_see_is_not_asked_for() -> None:
    """At d' 5 an answer may leave it out."""
    for seed in range(5):
        lr = _grey(BACKGROUND_GREY + _bar(5.0, length=40, width=3, seed=seed) + _noise(seed))
        erased, _ = _both_ways(lr, np.full(lr.shape, BACKGROUND_GREY))

        assert () == erased.lost


def test_noise_alone_shows_no_outline() -> None:
    """On 20 tiles of noise nothing is lost by an answer without it, and nothing is shown."""
    for seed in range(20):
        lr = _grey(BACKGROUND_GREY + _noise(100 + seed))
        lost, invented = _both_ways(lr, np.full(lr.shape, BACKGROUND_GREY))

        assert (0.0, (), ()) == (lost.shown_px, lost.lost, invented.lost)


def test_an_invented_bar_is_caught() -> None:
    """What the answer shows and the tile does not is counted apart from what is lost."""
    bar = _bar(20.0, length=30, width=3, seed=2)
    lost, invented = _both_ways(_grey(BACKGROUND_GREY + _noise(7)), BACKGROUND_GREY + bar)

    assert () == lost.lost
    assert 1 <= len(invented.lost)


def test_an_inverted_answer_loses_every_outline() -> None:
    """The sign counts: dark where the tile is bright is lost, though the place is right."""
    bar = _bar(40.0, length=60, width=5, seed=1)
    lost, _ = _both_ways(_grey(BACKGROUND_GREY + bar + _noise(3)), BACKGROUND_GREY - bar)

    assert lost.lost_px > 0.8 * lost.shown_px > 0
    assert lost.lost[0].kept_share < 0


def test_a_sharper_answer_of_another_tone_invents_nothing() -> None:
    """Blur, gain and offset between the tile and the answer are fitted, once for the tile."""
    x = np.arange(4 * SIDE_PX)
    hr = np.tile(60 + 100.0 * ((x // 40) % 2), (4 * SIDE_PX, 1))
    seen = area_mean(_grey(hr), (SIDE_PX, SIDE_PX))
    soft = np.tile(np.convolve(seen[0], np.array([1, 2, 1]) / 4, mode="same"), (SIDE_PX, 1))
    lr = _grey(30 + 0.6 * soft + _noise(5))

    lost, invented = _both_ways(lr, seen)

    assert ((), ()) == (lost.lost, invented.lost)
    assert lost.shown_px > 6 * SIDE_PX


def test_a_faint_bar_across_strong_lines_is_caught() -> None:
    """Strong edges mask it in the tile, not in the difference between tile and answer."""
    lines = np.tile(np.where(np.arange(SIDE_PX) % 24 < 8, 100.0, 0.0), (SIDE_PX, 1))
    bar = np.zeros((SIDE_PX, SIDE_PX))
    bar[46:50, 10:80] = 12.0
    bar[lines > 0] = 0.0
    lr = _grey(BACKGROUND_GREY + lines + bar + _noise(4))

    erased, _ = _both_ways(lr, BACKGROUND_GREY + lines)
    kept, invented = _both_ways(lr, BACKGROUND_GREY + lines + bar)

    assert 1 <= len(erased.lost)
    assert all(abs(item.y_px - 48) <= 4 for item in erased.lost)
    assert ((), ()) == (kept.lost, invented.lost)


def test_an_ill_fitting_picture_is_refused() -> None:
    """Sides must be a multiple of the tile's."""
    with pytest.raises(ValueError, match="not a multiple of the LR tile"):
        area_mean(np.zeros((65, 64), np.uint8), (16, 16))
