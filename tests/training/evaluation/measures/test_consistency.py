"""LR consistency: the tile seen coarsely, whatever its tone."""

import numpy as np
import pytest

from tests.training.evaluation.scenes import film, grey, lines, shrunk
from training.evaluation.measures.consistency import lr_consistency


def test_a_faithful_picture_is_consistent_whatever_its_tone() -> None:
    """Scene and LR tile agree but for noise; another tone changes nothing."""
    lr = shrunk(lines(), seed=0)

    plain = lr_consistency(grey(lines()), lr)
    toned = lr_consistency(grey(0.5 * lines() + 60), lr)

    assert plain.mean > 0.98
    assert toned.mean == pytest.approx(plain.mean, abs=5e-3)
    assert plain.worst <= plain.mean


def test_a_lost_defect_shows_in_the_worst_window() -> None:
    """The mean falls, the worst window most of all."""
    scene = film(blobs=[(60, 60, 80.0), (180, 180, 80.0)])
    lr = shrunk(scene, seed=1)

    kept = lr_consistency(grey(scene), lr)
    lost = lr_consistency(grey(film(blobs=[(60, 60, 80.0)]), noise=1.0), lr)

    assert kept.worst > 0.5
    assert lost.worst < 0.3
    assert lost.mean < kept.mean


def test_noise_alone_has_no_consistency() -> None:
    """A blank tile has no structure to keep."""
    found = lr_consistency(grey(film(blobs=[])), shrunk(film(blobs=[]), seed=2))

    assert np.isnan([found.mean, found.worst]).all()


def test_sides_must_be_a_multiple() -> None:
    """A picture of another size is refused."""
    with pytest.raises(ValueError, match=r"not a multiple of the LR tile \(60, 64\)"):
        lr_consistency(np.zeros((256, 256), np.uint8), np.zeros((60, 64), np.uint8))
