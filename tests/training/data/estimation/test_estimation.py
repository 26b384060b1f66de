"""The degradation is found again from unpaired images of different scenes."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from tests.training.recording import Recorder
from training.data.degradation.noise import NoiseModel, estimate_noise
from training.data.degradation.synthetic_lr import degrade
from training.data.estimation import DegradationEstimate, estimate_degradation
from training.data.estimation.edge_profiles import edge_distance, edge_profiles, match_images
from training.data.estimation.line_errors import estimate_jitter, estimate_line_gain
from training.data.estimation.tone_matching import ToneCurve, fit_tone, grey_quantiles
from training.data.estimation.trials import Trials, plain_degradation
from training.ground.progress import shown_by

SIDE_PX = 288
SCALE = 4
HR_NOISE = NoiseModel(base=0.3, slope=0.26)
TRUTH = {
    "spot_sigma_px": 2.6,
    "lag_decay": 0.25,
    "line_jitter_px": 0.12,
    "gain": 1.4,
    "gamma": 0.95,
    "offset_grey": 6.0,
    "line_gain_sigma": 0.02,
    "noise_var_base": 7.0,
    "noise_var_slope": 0.3,
}
TONE = ToneCurve(gain=1.4, gamma=0.95, offset_grey=6.0)


def _scene(number: int, *, seed: int) -> NDArray[np.uint8]:
    """Draw lines (upright, level) or holes with bright rims, with the noise of a slow scan."""
    rng = np.random.default_rng((seed, number))
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float64)
    rough = 1.2 * 8 * ndimage.gaussian_filter(rng.standard_normal((SIDE_PX, SIDE_PX)), 4)
    kind = number % 3
    pitch = rng.uniform(56, 72)
    if kind == 2:
        columns, rows = ((place + rng.uniform(0, pitch)) % pitch - pitch / 2 for place in (x, y))
        distance = np.hypot(columns, rows) - 0.27 * pitch + rough
    else:
        place = (x if kind == 0 else y) + rough + rng.uniform(0, pitch)
        distance = 0.25 * pitch - np.abs(place % pitch - pitch / 2)
    bright = 1 / (1 + np.exp(-distance / 0.8))
    rim = 70 * np.exp(-np.maximum(distance, 0) / 6) * bright
    dark_grey, bright_grey = rng.uniform(18, 22), rng.uniform(68, 74)
    clean = ndimage.gaussian_filter(dark_grey + (bright_grey - dark_grey) * bright + rim, 1.3)
    noise = np.sqrt(HR_NOISE.variance(clean)) * rng.standard_normal(clean.shape)
    return np.rint(clean + noise).clip(0, 255).astype(np.uint8)


def _degraded(hr: NDArray[np.uint8], *, seed: int, **values: float) -> NDArray[np.uint8]:
    image = torch.from_numpy(hr / np.float32(255))[None, None].float()
    generator = torch.Generator().manual_seed(seed)
    lr = degrade(image, plain_degradation(**values), scale=SCALE, generator=generator)
    return (255 * lr[0, 0]).round().byte().numpy()


def _float32(image: object) -> NDArray[np.float32]:
    return np.ascontiguousarray(image, dtype=np.float32)


HR_IMAGES = [_scene(number, seed=1) for number in range(15)]
OTHER_IMAGES = [_scene(number, seed=2) for number in range(15)]
RECORDER = Recorder()


@pytest.fixture(scope="module")
def estimate() -> DegradationEstimate:
    """Estimate the known degradation of other scenes."""
    lr = [_degraded(image, seed=seed, **TRUTH) for seed, image in enumerate(OTHER_IMAGES)]
    with shown_by(RECORDER):
        return estimate_degradation(lr, HR_IMAGES, scale=SCALE, seed=0)


def test_every_trial_of_the_search_is_counted(estimate: DegradationEstimate) -> None:
    """The search takes minutes on large images: its count ends where it said it would."""
    del estimate

    assert [
        "estimating the degradation: noise and greys: 0 of None step",
        "estimating the degradation: spot and lag: 31 of 31 trial",
        "estimating the degradation: tone and lines: 0 of None step",
    ] == RECORDER.lines


def test_spot_and_lag_are_found(estimate: DegradationEstimate) -> None:
    """Blur within 0.4 HR px, lag within 0.07."""
    assert TRUTH["spot_sigma_px"] == pytest.approx(estimate.point.spot_sigma_px[0], abs=0.4)
    assert TRUTH["lag_decay"] == pytest.approx(estimate.point.lag_decay[0], abs=0.07)
    assert estimate.point.lag_centred


def test_tone_is_found(estimate: DegradationEstimate) -> None:
    """The curves differ by at most three grey levels at the levels that the images show."""
    found = ToneCurve(
        gain=estimate.point.gain[0],
        gamma=estimate.point.gamma[0],
        offset_grey=estimate.point.offset_grey[0],
    )
    levels = np.quantile(np.stack(HR_IMAGES), (0.1, 0.5, 0.9))

    assert TONE.apply(levels) == pytest.approx(found.apply(levels), abs=3.0)


@pytest.mark.parametrize("grey", [45.0, 100.0])
def test_noise_is_found(estimate: DegradationEstimate, grey: float) -> None:
    """The variance to add is within 15 %: what averaging leaves of HR's noise is taken off."""
    expected = TRUTH["noise_var_base"] + TRUTH["noise_var_slope"] * grey
    found = estimate.point.noise_var_base[0] + estimate.point.noise_var_slope[0] * grey

    assert expected == pytest.approx(found, rel=0.15)


def test_line_errors_are_found(estimate: DegradationEstimate) -> None:
    """Jitter and gain of single lines come out near their deviations."""
    assert TRUTH["line_jitter_px"] == pytest.approx(estimate.point.line_jitter_px[0], rel=0.3)
    assert TRUTH["line_gain_sigma"] == pytest.approx(estimate.point.line_gain_sigma[0], rel=0.4)


def test_ranges_lie_around_the_point(estimate: DegradationEstimate) -> None:
    """Every range holds the estimate, and those of spot, gain and noise also the truth."""
    ranges = estimate.config.model_dump(exclude={"lag_centred"})
    point = estimate.point.model_dump(exclude={"lag_centred"})
    for name, (low, high) in ranges.items():
        assert low <= point[name][0] == point[name][1] <= high, name
    for name in ("spot_sigma_px", "gain", "noise_var_slope", "line_jitter_px"):
        low, high = ranges[name]
        assert low < high, name
        assert low - 0.02 <= TRUTH[name] <= high + 0.1, name


def test_evidence_comes_closer_to_the_lr_images(estimate: DegradationEstimate) -> None:
    """After the degradation, greys and edges are nearer to LR's than before it."""
    for name in ("tone_distance_grey", "edge_distance_x", "edge_distance_y"):
        row = estimate.evidence[name]
        assert 0.0 == row["lr"], name
        assert row["after"] < 0.65 * row["before"], name
    for name in ("grey_10", "grey_50", "grey_90"):
        row = estimate.evidence[name]
        assert abs(row["after"] - row["lr"]) < 0.4 * abs(row["before"] - row["lr"]), name


def test_without_a_gap_nothing_is_degraded() -> None:
    """Plain area means of other scenes ask for no blur, lag, tone, line error or noise."""
    lr = [_degraded(image, seed=0) for image in OTHER_IMAGES[:9]]

    point = estimate_degradation(lr, HR_IMAGES[:9], scale=SCALE, seed=0).point

    assert (1.0, 1.0, 0.0) == (point.gain[0], point.gamma[0], point.offset_grey[0])
    assert point.spot_sigma_px[0] < 0.5
    assert 0.0 == point.lag_decay[0]
    assert 0.0 == point.line_jitter_px[0]
    assert 0.0 == point.line_gain_sigma[0]
    assert point.noise_var_base[0] + 60 * point.noise_var_slope[0] < 0.5


@pytest.mark.parametrize(
    ("num_lr", "lr_px", "hr_px", "scale", "message"),
    [
        (1, 60, 240, 4, "at least 2 LR images, got 1"),
        (2, 40, 240, 4, r"LR images of 48 px a side, got \[\(40, 40\)\]"),
        (2, 60, 160, 4, "HR images of 192 px a side"),
        (2, 60, 240, 0, "scale of at least 1, got 0"),
    ],
)
def test_unsuitable_sets_are_refused(
    num_lr: int, lr_px: int, hr_px: int, scale: int, message: str
) -> None:
    """Errors name the side, the value and what was expected."""
    lr = [np.zeros((lr_px, lr_px), np.uint8)] * num_lr
    with pytest.raises(ValueError, match=message):
        estimate_degradation(lr, [np.zeros((hr_px, hr_px), np.uint8)] * 2, scale=scale)


@pytest.mark.parametrize("noise", [HR_NOISE, NoiseModel(base=8.6, slope=0.31)])
def test_noise_is_measured_on_structured_images(noise: NoiseModel) -> None:
    """Edges and levels do not enter the variance; nothing is found where nothing is."""
    images = []
    for number, scene in enumerate(HR_IMAGES[:6]):
        clean = ndimage.gaussian_filter(scene.astype(float), 3.0)
        normal = np.random.default_rng(number).standard_normal(clean.shape)
        noisy = clean + np.sqrt(noise.variance(clean) - 1 / 12) * normal
        images.append(np.rint(noisy).clip(0, 255).astype(np.uint8))

    found = estimate_noise(images)

    for grey in (25.0, 70.0):
        expected = noise.base + noise.slope * grey
        assert expected == pytest.approx(found.base + found.slope * grey, rel=0.1)
    assert NoiseModel(base=0.0, slope=0.0) == estimate_noise([np.zeros((64, 64), np.uint8)])


def test_matched_tone_ignores_another_mix_of_scenes() -> None:
    """With twice as many holes on one side, pooled levels shift; matched images do not."""
    ours = [image.astype(np.float32) for image in HR_IMAGES]
    theirs = [image for number, image in enumerate(OTHER_IMAGES) if number % 3 == 2 or number < 5]
    lr = [TONE.apply(image.astype(np.float32)).astype(np.float32) for image in theirs]

    curve, misfit = fit_tone(grey_quantiles(ours), grey_quantiles(lr))

    levels = np.array([20.0, 45.0, 75.0, 120.0])
    assert TONE.apply(levels) == pytest.approx(curve.apply(levels), abs=4.0)
    assert misfit < 3.0


def test_tone_curve_is_undone_by_its_inverse() -> None:
    """Inverse and slope belong to the curve."""
    grey = np.linspace(5.0, 150.0, 30)

    assert grey == pytest.approx(TONE.inverse(TONE.apply(grey)), abs=1e-6)
    numeric = (TONE.apply(grey + 1e-3) - TONE.apply(grey - 1e-3)) / 2e-3
    assert numeric == pytest.approx(TONE.slope(grey), rel=1e-3)


def test_edge_shape_is_blind_to_contrast_but_not_to_blur_and_direction() -> None:
    """Profiles change with blur, and with a lag along x; not with gain and offset."""
    clean = ndimage.zoom(_scene(0, seed=5).astype(np.float32), 0.25, order=1)
    sharp = _float32(ndimage.gaussian_filter(clean, 0.8))
    lag = [0.0, 0.0, 0.7, 0.2, 0.1]
    profiles = edge_profiles(sharp, along_x=True)
    stretched = edge_profiles(_float32(1.7 * sharp + 12), along_x=True)
    blurred = edge_profiles(_float32(ndimage.gaussian_filter(clean, 1.1)), along_x=True)
    lagged = edge_profiles(_float32(ndimage.convolve1d(sharp, lag, axis=1)), along_x=True)
    turned = edge_profiles(_float32(sharp.T), along_x=False)

    assert profiles is not None
    assert stretched is not None
    assert blurred is not None
    assert lagged is not None
    assert turned is not None
    assert edge_distance([profiles], [stretched]) < 0.01
    assert 0.0 == edge_distance([profiles], [turned])
    assert edge_distance([profiles], [blurred]) > 0.05
    bright_going, dark_going = lagged.quantiles.mean(axis=2)
    assert float(np.abs(bright_going - dark_going).max()) > 0.1
    assert edge_profiles(np.full((64, 64), 50, np.float32), along_x=True) is None


def test_matching_is_the_cheapest_and_keeps_the_nearest() -> None:
    """Against all permutations; a row that fits nothing is left out."""
    distances = np.array([[1.0, 2.0, 9.0], [1.5, 9.0, 9.0], [9.0, 9.0, 8.0]])

    rows, columns = match_images(distances, kept_share=0.6)

    assert {(0, 1), (1, 0)} == set(zip(rows.tolist(), columns.tolist(), strict=True))


def test_line_errors_need_evidence() -> None:
    """Sets without them give zero; flat images cannot tell jitter."""
    trials = Trials(HR_IMAGES, scale=SCALE, noise=NoiseModel(base=8.0, slope=0.3), seed=0)
    tone = ToneCurve(gain=1.3, gamma=1.0, offset_grey=5.0)
    first = trials.finished(trials.coarse(2.0, 0.0), tone)
    shaken = trials.finished(trials.coarse(2.0, 0.0, jitter_px=0.2), tone)
    other = Trials(OTHER_IMAGES, scale=SCALE, noise=trials.noise, seed=1)
    second = other.finished(other.coarse(2.0, 0.0), tone)
    flat = [np.full((72, 72), 60, np.float32)] * 3

    assert 0.0 == estimate_jitter(second, first, shaken, trials.noise, jitter_px=0.2)
    assert 0.2 == pytest.approx(
        estimate_jitter(shaken, first, shaken, trials.noise, jitter_px=0.2), rel=1e-6
    )
    assert 0.0 == estimate_line_gain(second, first, trials.noise)
    assert 0.0 == estimate_jitter(flat, first, shaken, trials.noise, jitter_px=0.2)
