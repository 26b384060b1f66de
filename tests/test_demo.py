"""The demo's pictures: LR and SR in equal greys."""

import numpy as np

from semsr.demo import match_greys


def test_matched_greys_undo_the_tone_of_the_fast_scan() -> None:
    """Noise in LR hides neither the gain nor the offset between the two scans."""
    rng = np.random.default_rng(0)
    fine = np.repeat(np.repeat(rng.choice([30, 110], size=(48, 48)), 4, 0), 4, 1).astype(np.uint8)
    truth = fine[::4, ::4].astype(np.float64)
    lr = np.clip(1.6 * truth + 12 + rng.normal(0, 8, truth.shape), 0, 255).astype(np.uint8)

    matched = match_greys(lr, fine).astype(np.float64)

    assert abs(float(np.mean(matched[truth == 30])) - 30) < 1.5
    assert abs(float(np.mean(matched[truth == 110])) - 110) < 1.5


def test_greys_of_a_flat_tile_are_only_shifted() -> None:
    """Noise alone has no gain: it must not be blown up."""
    rng = np.random.default_rng(0)
    lr = np.clip(rng.normal(90, 6, (48, 48)), 0, 255).astype(np.uint8)
    fine = np.clip(rng.normal(50, 3, (192, 192)), 0, 255).astype(np.uint8)

    matched = match_greys(lr, fine).astype(np.float64)

    assert abs(float(matched.mean()) - 50) < 1
    assert abs(float(matched.std()) - float(lr.std())) < 0.5
