"""Spectra and histograms against noise of known colour and slow versions."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from training.evaluation.measures.background import (
    BORDER_BINS,
    SPECTRUM_BINS,
    border_spectrum_db,
    distance_by_scene,
    histogram_distance,
    log_spectral_distance,
    match_histogram,
    mean_by_scene,
    radial_spectrum_db,
    split_half_floor,
)


def _noise(seed: int, *, sigma: float = 8.0, blur_px: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((256, 224))
    if blur_px:
        noise = ndimage.gaussian_filter(noise, blur_px)
    return np.clip(np.rint(100 + sigma * noise), 0, 255).astype(np.uint8)


def test_white_noise_has_a_flat_spectrum_at_its_variance() -> None:
    """Sigma 8 is 18.1 dB at every radius, along the border too."""
    level_db = 10 * np.log10(64 + 1 / 12)
    rings = np.mean([radial_spectrum_db(_noise(seed)) for seed in range(12)], axis=0)
    border = np.mean([border_spectrum_db(_noise(seed)) for seed in range(30)], axis=0)

    assert (SPECTRUM_BINS, BORDER_BINS) == (rings.size, border.size)
    assert float(np.abs(rings - level_db).max()) < 0.4
    assert float(np.abs(border - level_db).max()) < 0.8


def test_rings_equal_a_slow_version() -> None:
    """Ring by ring over the full transform, as the definition says."""
    image = _noise(1, blur_px=0.7)
    rows, columns = image.shape
    window = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (rows, columns)))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2 / (window**2).sum()
    radius = 2 * np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None, :])
    edges = np.linspace(1 / 8, 1, SPECTRUM_BINS + 1)
    slow = [
        10 * np.log10(power[(radius >= low) & (radius < high)].mean())
        for low, high in itertools.pairwise(edges)
    ]

    # The fast version's half plane counts the axis column as often as the others.
    assert radial_spectrum_db(image) == pytest.approx(slow, abs=0.15)


def test_distance_of_a_gain_and_of_a_colour() -> None:
    """Twice the amplitude is 6.02 dB apart; a blur is far away; the same colour is near."""
    white, twice = radial_spectrum_db(_noise(2)), radial_spectrum_db(_noise(2, sigma=16.0))

    assert 6.02 == pytest.approx(float(log_spectral_distance(white, twice)), abs=0.1)
    assert 0.0 == float(log_spectral_distance(white, white))
    assert float(log_spectral_distance(white, radial_spectrum_db(_noise(3, blur_px=1.0)))) > 8


def test_distance_is_averaged_over_the_scene_kinds_in_both() -> None:
    """Kinds weigh the same whatever their number of tiles; unknown kinds are left out."""
    spectra = np.array([[1.0, 1.0], [3.0, 3.0], [10.0, 10.0], [50.0, 50.0]])
    scenes = ["a", "a", "b", "c"]
    reference = {"a": np.zeros(2), "b": np.full(2, 6.0)}

    plain = distance_by_scene(spectra, scenes, reference)
    weighted = distance_by_scene(
        spectra, scenes, reference, weights=np.array([[2.0, 0, 1, 1], [1, 1, 0, 2], [0, 0, 0, 4]])
    )

    assert [(2 + 4) / 2] == plain.tolist()
    assert [(1 + 4) / 2, 2.0] == weighted[:2].tolist()
    assert np.isnan(weighted[2])
    assert [2.0, 2.0] == mean_by_scene(spectra, scenes)["a"].tolist()


def test_floor_is_what_equal_sets_differ_by() -> None:
    """Halves of one noise are a few tenths of a dB apart, far less than another noise is."""
    spectra = np.array([radial_spectrum_db(_noise(seed)) for seed in range(8)])
    other = np.array([radial_spectrum_db(_noise(seed, blur_px=0.5)) for seed in range(8, 16)])

    floor = split_half_floor(spectra, ["a"] * 8)
    distance = distance_by_scene(other, ["a"] * 8, mean_by_scene(spectra, ["a"] * 8))

    assert 0 < floor < 0.5
    assert float(distance[0]) > 4 * floor
    assert np.isnan(split_half_floor(spectra[:2], ["a", "b"]))


def test_histogram_distance_is_the_shift() -> None:
    """All greys five levels up is a distance of five."""
    counts = np.zeros(256)
    counts[40:60] = np.arange(20)

    assert 5.0 == pytest.approx(histogram_distance(counts, np.roll(counts, 5)))
    assert 0.0 == histogram_distance(counts, 3 * counts)


def test_histogram_match_gives_the_target_histogram() -> None:
    """A toned picture is mapped back; equal histograms map to themselves; the table never falls."""
    target = _noise(5, sigma=20.0)
    toned = (0.5 * target + 90).astype(np.uint8)
    source_counts, target_counts = (
        np.bincount(image.ravel(), minlength=256).astype(float) for image in (toned, target)
    )

    table = match_histogram(source_counts, target_counts)
    same = match_histogram(target_counts, target_counts)

    mapped = np.bincount(table[toned].ravel(), minlength=256).astype(float)
    assert histogram_distance(mapped, target_counts) < 1.0
    present = target_counts > 0
    assert np.arange(256)[present].tolist() == same[present].tolist()
    assert (np.diff(table.astype(int)) >= 0).all()
