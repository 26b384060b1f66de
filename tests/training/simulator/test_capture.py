"""The two capture modes: noise law, lag, alignment, levels of the real runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.simulator.capture import (
    INSPECTION,
    NEAR_REVIEW,
    REVIEW,
    STEADY_INSPECTION,
    CaptureMode,
    capture,
    detector_lag,
    noise_free,
)
from training.simulator.emission import secondary_electrons
from training.simulator.layout import Canvas, Floats, Surface
from training.simulator.pictures import to_uint8
from training.simulator.tile import TileRecipe, simulate_tile

FLAT_CANVAS = Canvas(tile_px=960, margin_px=48, pixel_nm=1.0)


@pytest.mark.parametrize(
    "mode", [REVIEW, STEADY_INSPECTION, NEAR_REVIEW], ids=lambda mode: mode.name
)
@pytest.mark.parametrize("signal", [0.4, 1.0, 2.0])
def test_flat_area_has_the_noise_variance_of_the_model(mode: CaptureMode, signal: float) -> None:
    """In the rounded 8-bit image a flat area varies as noise_floor + noise_per_grey · grey."""
    flat = np.full(FLAT_CANVAS.shape, signal)
    image = capture(flat, FLAT_CANVAS, mode, np.random.default_rng(0), fine_per_pixel=2)
    grey = float(mode.tone(np.array(signal)))
    expected = mode.noise_floor + mode.noise_per_grey * grey
    rounded = to_uint8(image).astype(float)
    assert rounded.mean() == pytest.approx(grey, abs=0.05)
    # 230,400 pixels: the variance of the estimate is 0.3 %.
    assert rounded.var() == pytest.approx(expected, rel=0.015)


def test_noise_is_white() -> None:
    """Neighbours' noise is not correlated, along the scan or across it."""
    flat = np.full(FLAT_CANVAS.shape, 1.0)
    image = capture(
        flat, FLAT_CANVAS, STEADY_INSPECTION, np.random.default_rng(1), fine_per_pixel=2
    )
    noise = image - image.mean()
    along = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
    across = (noise[1:] * noise[:-1]).mean() / noise.var()
    assert abs(along) < 0.01
    assert abs(across) < 0.01


def test_lag_leaves_a_tail_to_the_right_only_along_x() -> None:
    """A bright point smears within its row, to the right, and its mean place stays."""
    point = np.zeros((9, 201))
    point[4, 100] = 1.0
    smeared = detector_lag(point, 3.0)
    other_rows = np.delete(smeared, 4, axis=0)
    assert np.abs(other_rows).max() == 0.0
    place = np.arange(201) - 100
    row = smeared[4]
    assert row.sum() == pytest.approx(1.0, abs=1e-6)
    assert (row * place).sum() == pytest.approx(0.0, abs=0.05)
    assert (row * place**3).sum() > 0  # skewed to the right
    assert row[108] > 10 * abs(row[92])


def test_lag_leaves_horizontal_edges_alone() -> None:
    """An image that does not change along x is the same after the lag."""
    image = np.repeat(np.linspace(0, 5, 40)[:, None] ** 2, 64, axis=1)
    np.testing.assert_allclose(detector_lag(image, 2.5), image, atol=1e-9)


def test_lag_blurs_vertical_edges_of_an_inspection_scan() -> None:
    """With the mode's lag a vertical step rises more slowly than without, a horizontal one not."""
    still = replace(STEADY_INSPECTION, jitter_px=0.0)
    step = np.ones(FLAT_CANVAS.shape)
    step[:, FLAT_CANVAS.shape[1] // 2 :] = 2.0

    def slopes(signal: Floats, mode: CaptureMode) -> tuple[float, float]:
        rng = np.random.default_rng(2)
        image = noise_free(signal, FLAT_CANVAS, mode, rng, fine_per_pixel=4)
        return float(np.diff(image, axis=1).max()), float(np.diff(image, axis=0).max())

    assert slopes(step, still)[0] < 0.98 * slopes(step, replace(still, lag_px=0.0))[0]
    assert slopes(step.T, still)[1] == pytest.approx(
        slopes(step.T, replace(still, lag_px=0.0))[1], rel=1e-9
    )


def test_inspection_is_coarser_brighter_and_noisier_than_review() -> None:
    """The domain gap has the direction of the real runs."""
    tile = simulate_tile(TileRecipe("iso_lines"), seed=3, number=0)
    box = tile.hr.reshape(240, 4, 240, 4).mean(axis=(1, 3))
    assert np.median(tile.lr) > 1.4 * np.median(tile.hr)
    assert np.percentile(tile.lr, 99) < 1.65 * np.percentile(box, 99)
    assert INSPECTION.noise_variance(np.array(72.0)) > REVIEW.noise_variance(np.array(45.0))


@pytest.mark.parametrize("scene", ["dense_holes", "sparse_holes"])
def test_both_modes_see_the_scene_in_the_same_place(scene: str) -> None:
    """LR and HR of a scene register to less than half an HR pixel along either axis."""
    tile = simulate_tile(TileRecipe(scene), seed=5, number=1)
    box = tile.hr.reshape(240, 4, 240, 4).mean(axis=(1, 3))
    down, right = _shift_by_cross_correlation(tile.lr, box)
    assert abs(4 * down) < 0.5
    assert abs(4 * right) < 0.5


def test_cross_correlation_finds_a_known_shift() -> None:
    """The measure used above is right: it finds a sub-pixel shift that was put in."""
    tile = simulate_tile(TileRecipe("sparse_holes"), seed=5, number=1)
    spectrum = np.fft.fft2(tile.lr)
    rows, columns = np.fft.fftfreq(240)[:, None], np.fft.fftfreq(240)[None, :]
    shifted = np.fft.ifft2(spectrum * np.exp(-2j * np.pi * (0.5 * rows - 0.25 * columns))).real
    down, right = _shift_by_cross_correlation(shifted, tile.lr)
    assert down == pytest.approx(0.5, abs=0.04)
    assert right == pytest.approx(-0.25, abs=0.04)


def test_flat_surface_gives_its_material() -> None:
    """Without height there is no tilt, edge or shadow."""
    material = np.linspace(0.5, 2.0, 64 * 64).reshape(64, 64)
    signal = secondary_electrons(Surface(np.full((64, 64), 30.0), material), 1.0)
    np.testing.assert_allclose(signal, material, rtol=1e-9)


def test_gentle_tilt_raises_the_yield_as_one_over_cosine() -> None:
    """At 20 degrees the yield follows 1/cos to 1 %."""
    slope = np.tan(np.radians(20))
    # As long as the ranges of the neighbourhood, so that its middle sees a plane only.
    height = np.repeat(slope * np.arange(2000.0)[None, :], 4, axis=0)
    signal = secondary_electrons(Surface(height, np.ones_like(height)), 1.0)
    assert signal[2, 1000] == pytest.approx(1 / np.cos(np.radians(20)), rel=0.01)


def test_edges_are_bright_and_trenches_dark() -> None:
    """Across a trench: rim above the top level, floor below it, and darker when narrower."""

    def profile(width_px: int) -> Floats:
        height = np.full((8, 800), 60.0)
        height[:, 400 - width_px // 2 : 400 + width_px // 2] = 0.0
        return secondary_electrons(Surface(height, np.ones_like(height)), 1.0)[4]

    narrow, wide = profile(30), profile(200)
    top = narrow[20]
    assert narrow[375:425].max() > 1.5 * top
    assert 0.0 < narrow[400] < wide[400] < top


def _shift_by_cross_correlation(
    image: NDArray[np.float64], reference: NDArray[np.float64]
) -> tuple[float, float]:
    """Return how far `image` lies below and right of `reference`, in steps of 1/64 pixel."""
    rows, columns = image.shape
    window = np.hanning(rows)[:, None] * np.hanning(columns)[None, :]
    spectra = [np.fft.fft2((a - a.mean()) * window) for a in (image, reference)]
    cross = spectra[0] * spectra[1].conj()
    shifts = np.arange(-96, 97) / 64
    down = np.exp(2j * np.pi * shifts[:, None] * np.fft.fftfreq(rows)[None, :])
    right = np.exp(2j * np.pi * np.fft.fftfreq(columns)[:, None] * shifts[None, :])
    correlation = (down @ cross @ right).real
    at = np.unravel_index(int(correlation.argmax()), correlation.shape)
    return float(shifts[at[0]]), float(shifts[at[1]])


@pytest.mark.requires_data
@pytest.mark.parametrize(("folder", "side"), [("train_lr", "lr"), ("train_hr", "hr")])
def test_background_level_and_noise_are_those_of_the_real_run(
    data_folder: Path, folder: str, side: str
) -> None:
    """Open oxide and its noise lie within 20 % of the real tiles', in both domains."""
    tiles = sorted((data_folder / "sem/starter_x4" / folder).glob("*.png"))
    real = [np.asarray(Image.open(tile), dtype=float) for tile in tiles]
    simulated = [
        getattr(simulate_tile(TileRecipe("iso_lines"), seed=6, number=number), side)
        for number in range(3)
    ]
    assert len(real) == 20
    level = {"real": real, "simulated": [np.rint(tile) for tile in simulated]}
    medians = {name: np.median([np.median(a) for a in images]) for name, images in level.items()}
    noise = {name: np.median([_noise_sigma(a) for a in images]) for name, images in level.items()}
    assert medians["simulated"] == pytest.approx(medians["real"], rel=0.2)
    assert noise["simulated"] == pytest.approx(noise["real"], rel=0.2)


def _noise_sigma(image: NDArray[np.float64]) -> float:
    """Return the noise from second differences along both axes, by their median (edges ignored)."""
    second = image[1:-1] - (image[:-2] + image[2:]) / 2
    both = second[:, 1:-1] - (second[:, :-2] + second[:, 2:]) / 2
    return float(np.median(np.abs(both)) / 0.6745 / 1.5)
