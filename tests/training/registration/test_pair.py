"""Registration of one pair: shifts found, and pairs refused for the right reason."""

import numpy as np
import pytest
from scipy import ndimage

from tests.training.registration_scenes import (
    SCALE,
    fast_scan,
    grating,
    rounded,
    shifted_pair,
    simulated,
    slow_scan,
)
from training.registration.pair import Registration, RegistrationError, register
from training.simulator.scenes.registry import SCENES

WHOLE, FRACTION = (3.0, -5.0), (-4.37, 6.62)


def errors(found: Registration, shift: tuple[float, float]) -> tuple[float, float]:
    """Return the error of a found shift along y and x."""
    return abs(found.shift[0] - shift[0]), abs(found.shift[1] - shift[1])


@pytest.mark.parametrize(
    ("scene", "shift"), [*((scene, FRACTION) for scene in SCENES), ("sram", WHOLE)]
)
def test_shift_is_found_to_a_tenth_of_a_pixel(scene: str, shift: tuple[float, float]) -> None:
    """On every kind of scene, without LR's noise.

    One isolated line is lying here. The shift along it is known by its roughness, but the fast
    scan's own jitter, the mean over the rows that the line covers, is in it.
    """
    lr, hr = shifted_pair(simulated(scene), shift, has_noise=False)
    found = register(lr, hr, scale=SCALE)
    along_y, along_x = errors(found, shift)
    assert along_y < 0.1
    assert along_x < (0.3 if scene == "iso_lines" else 0.1)
    assert found.unknown_axis is None
    assert found.residual_px < 0.6


@pytest.mark.parametrize("scene", SCENES)
def test_with_noise_the_error_is_within_its_standard_errors(scene: str) -> None:
    """LR's noise alone bounds the accuracy: to 0.4 px on a blank film of this size."""
    lr, hr = shifted_pair(simulated(scene), FRACTION)
    found = register(lr, hr, scale=SCALE)
    for error, standard_error in zip(errors(found, FRACTION), found.standard_error_px, strict=True):
        assert error < 0.1 + 3 * standard_error
        assert standard_error < 0.5
    assert found.correlation > 0.7


def test_fraction_is_what_the_crop_leaves() -> None:
    """Whole part and fraction sum to the shift; the fraction is at most half a pixel."""
    lr, hr = shifted_pair(simulated("sram"), FRACTION, has_noise=False)
    found = register(lr, hr, scale=SCALE)
    assert (-4, 7) == found.whole_shift
    assert found.fraction == pytest.approx((-0.37, -0.38), abs=0.1)


@pytest.mark.parametrize(
    ("angle_deg", "unknown", "expected"),
    [(0.0, "y", (0.0, 4.4)), (0.4, "y", (0.0, 4.38)), (90.0, "x", (-3.0, 0.0)),
     (30.0, "y", (0.0, 2.668)), (60.0, "x", (-0.460, 0.0))],
)  # fmt: skip
def test_straight_lines_leave_the_shift_along_them_unknown(
    angle_deg: float, unknown: str, expected: tuple[float, float], rng: np.random.Generator
) -> None:
    """It is reported, and the shift across is right at the smallest shift along."""
    lr = fast_scan(grating(80, angle_deg=angle_deg), rng)
    hr = slow_scan(grating(80, angle_deg=angle_deg, shift=(-3.0, 4.4)), rng)
    found = register(lr, hr, scale=SCALE)
    assert unknown == found.unknown_axis
    assert found.shift == pytest.approx(expected, abs=0.1)
    assert np.isinf(found.standard_error_px[0 if unknown == "y" else 1])


@pytest.mark.parametrize("noise_sigma", [0.0, 5.0])
def test_grating_shifted_by_its_pitch_is_ambiguous(
    noise_sigma: float, rng: np.random.Generator
) -> None:
    """Shifts of no pitch and of one explain the pair equally well; the reason names both."""
    lr = fast_scan(grating(20), rng, noise_sigma=noise_sigma)
    hr = slow_scan(grating(20, shift=(0, 20)), rng, noise_sigma=0.6 * noise_sigma)
    with pytest.raises(RegistrationError, match="ambiguous by a pitch") as raised:
        register(lr, hr, scale=SCALE)
    assert "dx +20" in str(raised.value)
    assert "dx +0" in str(raised.value)


def test_pitch_that_is_not_whole_is_ambiguous_and_not_inverted(rng: np.random.Generator) -> None:
    """Peaks are compared at their fractions: half a period on, an inverse fits a whole shift."""
    lr, hr = fast_scan(grating(20.6), rng), slow_scan(grating(20.6, shift=(0, 5.3)), rng)
    with pytest.raises(RegistrationError, match="ambiguous"):
        register(lr, hr, scale=SCALE)


def test_smaller_greatest_shift_resolves_a_pitch(rng: np.random.Generator) -> None:
    """As the reason says."""
    lr, hr = fast_scan(grating(20), rng), slow_scan(grating(20, shift=(0, 3.3)), rng)
    found = register(lr, hr, scale=SCALE, max_shift_px=8)
    assert found.shift[1] == pytest.approx(3.3, abs=0.1)


def test_one_defect_makes_a_grating_unambiguous(rng: np.random.Generator) -> None:
    """Structure in few windows counts by its ratio to the noise."""
    signal = grating(20)
    signal[200:260, 150:330] = 110
    lr, hr = fast_scan(signal, rng), slow_scan(np.roll(signal, (2, -3), (0, 1)), rng)
    found = register(lr, hr, scale=SCALE)
    assert found.unknown_axis is None
    assert errors(found, (2, -3))[0] < 3 * found.standard_error_px[0]
    assert errors(found, (2, -3))[1] < 0.1


@pytest.mark.parametrize("scene", ["sram", "granular"])
def test_inverted_contrast_is_found(scene: str) -> None:
    """It is refused by default, and otherwise the shift is the same and the correlation below 0."""
    lr, hr = shifted_pair(simulated(scene), WHOLE, has_noise=False)
    inverted = rounded(np.clip(2 * hr.mean() - hr, 0, 255))
    with pytest.raises(RegistrationError, match=r"contrast is inverted: correlation -0\.\d"):
        register(lr, inverted, scale=SCALE)
    found = register(lr, inverted, scale=SCALE, accept_inverted=True)
    assert max(errors(found, WHOLE)) < 0.1
    assert found.correlation < -0.6


@pytest.mark.parametrize(
    ("first", "second"),
    [("sram", "granular"), ("blank_film", "granular"), ("sparse_holes", "dense_holes"),
     ("dense_lines", "iso_lines")],
)  # fmt: skip
def test_unrelated_pair_is_refused(first: str, second: str) -> None:
    """At the best of all shifts, the structure does not correlate, or several are as good."""
    lr, _ = shifted_pair(simulated(first), (0, 0))
    _, hr = shifted_pair(simulated(second), (0, 0))
    with pytest.raises(RegistrationError, match=r"correlation of the structure|ambiguous|inverted"):
        register(lr, hr, scale=SCALE)


def test_other_place_of_one_material_is_refused() -> None:
    """Two films of one grain have no structure in common."""
    lr, _ = shifted_pair(simulated("blank_film"), (0, 0))
    _, hr = shifted_pair(simulated("blank_film", number=1), (0, 0))
    with pytest.raises(RegistrationError, match="correlation of the structure is"):
        register(lr, hr, scale=SCALE)


def test_noise_alone_is_refused(rng: np.random.Generator) -> None:
    """Two flat pictures correlate at no shift."""
    flat = np.full((480, 480), 100.0)
    with pytest.raises(RegistrationError, match="correlation of the structure is"):
        register(fast_scan(flat, rng), slow_scan(flat, rng), scale=SCALE)


def test_one_grey_is_refused() -> None:
    """An empty frame is named."""
    with pytest.raises(RegistrationError, match="HR has one grey, 7"):
        register(
            np.arange(3600, dtype=np.uint8).reshape(60, 60),
            np.full((240, 240), 7, np.uint8),
            scale=SCALE,
        )


def test_small_pictures_are_refused() -> None:
    """The reason gives the size and what helps."""
    rng = np.random.default_rng(0)
    lr = rng.integers(0, 255, (30, 30)).astype(np.uint8)
    with pytest.raises(RegistrationError, match=r"overlap is 72 HR px .* expected at least 120"):
        register(lr, np.kron(lr, np.ones((4, 4), np.uint8)), scale=SCALE)


def test_shift_at_the_limit_is_refused() -> None:
    """A true shift outside the window must not be taken for its border."""
    lr, hr = shifted_pair(simulated("sram"), (9.0, 0.0))
    with pytest.raises(RegistrationError, match="reaches the greatest shift of 6 px"):
        register(lr, hr, scale=SCALE, max_shift_px=6)


def _warped(hr: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return HR moved about its centre: the scene at p is at matrix @ p afterwards."""
    centre = (np.array(hr.shape)[:, None, None] - 1) / 2
    places = np.indices(hr.shape) - centre
    sources = np.einsum("ij,jyx->iyx", np.linalg.inv(matrix), places) + centre
    return rounded(ndimage.map_coordinates(hr.astype(float), sources, order=3, mode="nearest"))


def test_wrong_scale_is_refused_with_the_scale() -> None:
    """A pixel size that is 0.8 % off along y is found to a tenth of it."""
    lr, hr = shifted_pair(simulated("sram"), (0, 0), has_noise=False)
    with pytest.raises(RegistrationError, match=r"scale along y is 4\.03[0-4] HR px"):
        register(lr, _warped(hr, np.diag([1.008, 1.0])), scale=SCALE)


def test_rotation_is_measured() -> None:
    """From x towards y is positive."""
    lr, hr = shifted_pair(simulated("sram"), (0, 0), has_noise=False)
    angle = np.radians(0.15)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    found = register(lr, _warped(hr, turn), scale=SCALE)
    assert found.rotation_deg == pytest.approx(0.15, abs=0.02)
    assert found.scale_error == pytest.approx((0, 0), abs=3e-4)


def test_local_shifts_beyond_a_pixel_are_refused() -> None:
    """The residual is the deviation of the local shifts, not their measurement's."""
    lr, hr = shifted_pair(simulated("dense_holes"), (0, 0), has_noise=False)
    y, x = np.mgrid[: hr.shape[0], : hr.shape[1]].astype(float)
    # One period, so that neither shift nor scale explains it; deviation amplitude / sqrt(2).
    wave = np.cos(2 * np.pi * x / hr.shape[1])

    def bent(amplitude_px: float) -> np.ndarray:
        places = [y - amplitude_px * wave, x]
        return rounded(ndimage.map_coordinates(hr.astype(float), places, order=3, mode="nearest"))

    found = register(lr, bent(0.8), scale=SCALE)
    # Both axes count, and only one is bent: another factor of 1 / sqrt(2).
    assert found.residual_px == pytest.approx(0.4, abs=0.06)
    with pytest.raises(RegistrationError, match="local shifts differ by 1"):
        register(lr, bent(2.4), scale=SCALE)


def test_pictures_of_unequal_fields_are_centred() -> None:
    """HR that shows 10 LR px more around the field has the shift of the centred fields."""
    tile = simulated("sram")
    lr, _ = shifted_pair(tile, (0, 0))
    found = register(lr, rounded(np.roll(tile.hr, (2, -1), (0, 1))), scale=SCALE)
    assert found.shift == pytest.approx((2, -1), abs=0.15)
    lr_part, hr_part = found.fields.crops(found.whole_shift)
    assert lr.shape == lr[lr_part].shape
    assert (480, 480) == tile.hr[hr_part].shape


@pytest.mark.requires_data
def test_real_pair_is_registered(data_folder) -> None:
    """Two captures of one field, registered by their authors, are found at no shift."""
    from training.data.images import read_grey

    folder = data_folder / "sem" / "starter_x4" / "test_real_pairs"
    found = register(
        read_grey(folder / "pair0_lr.png"), read_grey(folder / "pair0_hr.png"), scale=SCALE
    )
    assert found.shift == pytest.approx((0, 0), abs=0.2)
    assert found.correlation > 0.9
