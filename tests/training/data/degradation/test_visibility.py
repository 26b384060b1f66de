"""What a coarse scan can show, and that nothing fainter is planted."""

import numpy as np
import pytest

from training.config.degradation import DegradationConfig
from training.data.augmentation.planting import plant_defects
from training.data.degradation.noise import NoiseModel
from training.data.degradation.visibility import CoarseScan, VisibilityRule

PLAIN = DegradationConfig(
    spot_sigma_px=(0, 0), noise_var_base=(25, 25), noise_var_slope=(0, 0), gain=(1, 1)
)


def test_detectability_of_a_square_is_its_contrast_times_the_root_of_its_area() -> None:
    """10 grey levels on 3x3 LR pixels in noise of 5 levels: 10 / 5 * 3."""
    before = np.full((96, 96), 60.0, dtype=np.float32)
    after = before.copy()
    after[24:36, 40:52] += 10

    value = CoarseScan(degradation=PLAIN, scale=4).detectability(before, after)

    assert pytest.approx(6.0, rel=1e-5) == value


def test_spot_tone_and_noise_decide() -> None:
    """A wider spot and noise that grows with grey show less, a steeper tone shows more."""
    before = np.full((96, 96), 60.0, dtype=np.float32)
    after = before.copy()
    after[44:52, 44:52] += 10

    def value(**changed: object) -> float:
        config = PLAIN.model_copy(update=changed)
        return CoarseScan(degradation=config, scale=4).detectability(before, after)

    plain = value()
    assert value(spot_sigma_px=(4.0, 4.0)) < 0.8 * plain
    # The noise is that of the grey halfway, 65.
    noisier = (25 + 1.24 * 65) / 25
    assert pytest.approx(plain / noisier**0.5, rel=1e-5) == value(noise_var_slope=(1.24, 1.24))
    assert pytest.approx(1.5 * plain, rel=1e-4) == value(gain=(1.5, 1.5))
    assert 0 == CoarseScan(degradation=PLAIN, scale=4).detectability(before, before)


def test_nothing_is_planted_that_the_scan_cannot_show() -> None:
    """Every planted change reaches the least detectability; without it many do not."""
    rng = np.random.default_rng(0)
    film = np.full((192, 192), 60 / 255, dtype=np.float32)
    scan = CoarseScan(degradation=PLAIN, scale=4)
    silent = NoiseModel(base=0.0, slope=0.0)

    def planted(least: float) -> list[float]:
        values = []
        for _ in range(40):
            image, mask = plant_defects(
                film,
                rng,
                count=1,
                kinds=["stain", "particle"],
                noise=silent,
                rule=VisibilityRule(scan=scan, least=least),
            )
            if mask.any():
                values.append(scan.detectability(255 * film, 255 * image))
        return values

    # A window of the image is looked at while planting, the whole of it here.
    assert min(planted(12.0)) > 11.9
    assert min(planted(0.0)) < 8.0


def test_a_film_that_shows_nothing_gets_nothing() -> None:
    """Where no draw is visible, fewer defects are planted, and the call ends."""
    rng = np.random.default_rng(0)
    film = np.full((192, 192), 60, dtype=np.uint8)

    image, mask = plant_defects(
        film,
        rng,
        count=3,
        noise=NoiseModel(base=0.0, slope=0.0),
        rule=VisibilityRule(scan=CoarseScan(degradation=PLAIN, scale=4), least=1e6),
    )

    assert not mask.any()
    np.testing.assert_array_equal(film, image)


def test_a_change_is_faded_to_the_wanted_detectability() -> None:
    """The share of it has the wanted d', also under a tone that is not linear."""
    scan = CoarseScan(
        degradation=PLAIN.model_copy(update={"gamma": (0.6, 0.6), "noise_var_slope": (0.5, 0.5)}),
        scale=4,
    )
    rule = VisibilityRule(scan=scan, least=8.0)
    before = np.full((96, 96), 20.0, dtype=np.float32)
    after = before.copy()
    after[20:60, 12:80] += 120

    for wanted in (8.0, 25.0, 80.0):
        share = rule.fading(before, after, wanted)
        assert share is not None
        reached = scan.detectability(before, before + np.float32(share) * (after - before))
        assert pytest.approx(wanted, rel=0.02) == reached


def test_nothing_is_made_stronger() -> None:
    """What is fainter than the wanted d' stays as it is; what is fainter than the least goes."""
    scan = CoarseScan(degradation=PLAIN, scale=4)
    before = np.full((96, 96), 60.0, dtype=np.float32)
    after = before.copy()
    after[24:36, 40:52] += 20  # d' = 12

    assert 1.0 == VisibilityRule(scan=scan, least=8.0).fading(before, after, 40.0)
    assert 1.0 == VisibilityRule(scan=scan, least=8.0).fading(before, after, None)
    assert VisibilityRule(scan=scan, least=13.0).fading(before, after, None) is None


def test_what_has_a_size_for_its_strength_is_drawn_smaller() -> None:
    """The strength is found for a drawing that is not linear in it."""
    scan = CoarseScan(degradation=PLAIN, scale=4)
    before = np.full((96, 96), 60.0, dtype=np.float32)

    def draw(strength: float) -> np.ndarray:
        after = before.copy()
        after[:, : round(80 * strength)] += 10
        return after

    strength = VisibilityRule(scan=scan, least=8.0).strength(before, draw, 30.0)

    assert strength is not None
    assert pytest.approx(30.0, rel=0.1) == scan.detectability(before, draw(strength))


def test_detectability_is_drawn_log_uniformly_for_a_share() -> None:
    """Each octave is as frequent as the next; without a share nothing is drawn from the source."""
    scan = CoarseScan(degradation=PLAIN, scale=4)
    rng = np.random.default_rng(0)

    drawn = [
        VisibilityRule(scan=scan, least=8.0, most=72.0, drawn_share=0.7).draw(rng)
        for _ in range(3000)
    ]
    values = np.array([value for value in drawn if value is not None])
    state = rng.bit_generator.state
    nothing = VisibilityRule(scan=scan, least=8.0).draw(rng)

    assert 0.7 == pytest.approx(values.size / len(drawn), abs=0.03)
    assert 8.0 <= values.min()
    assert 72.0 >= values.max()
    assert 24.0 == pytest.approx(float(np.median(values)), rel=0.06)
    assert (None, state) == (nothing, rng.bit_generator.state)
