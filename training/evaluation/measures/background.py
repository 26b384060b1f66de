"""Spectra and grey histograms of defect-free tiles, compared with HR pictures of other scenes.

The measures compare sets of pictures and need no alignment. Sets are compared separately for each
kind of scene, because a grating and a blank film look different.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from training.evaluation.measures.detection import BORDER_PX

LOWEST_FREQUENCY = 1 / 8
"""Lowest frequency, in units of Nyquist; lower ones depend on the scene's layout."""

SPECTRUM_BINS = 42
BORDER_BINS = 21
TINY_POWER = 1e-6

Spectrum = NDArray[np.float64]


def radial_spectrum_db(image: NDArray[np.uint8]) -> Spectrum:
    """Return the power spectral density in rings of equal width.

    The mean is subtracted and a Hann window applied. The rings extend from `LOWEST_FREQUENCY` to
    Nyquist.

    Args:
        image: (H, W) grey levels.

    Returns:
        (SPECTRUM_BINS,) in dB re one squared grey level a pixel, which white noise of variance 1
        gives as 0 dB.
    """
    pixels = image.astype(np.float32)
    window = _hann(pixels.shape[0])[:, None] * _hann(pixels.shape[1])[None, :]
    power = _power(np.asarray(fft.rfft2((pixels - pixels.mean()) * window)))
    bins, counts = _rings(pixels.shape)
    sums = np.bincount(bins.ravel(), weights=power.ravel(), minlength=SPECTRUM_BINS + 1)
    density = sums[:SPECTRUM_BINS] / counts / float((window.astype(np.float64) ** 2).sum())
    return 10 * np.log10(np.maximum(density, TINY_POWER))


def border_spectrum_db(image: NDArray[np.uint8]) -> Spectrum:
    """Return the power spectral density along the picture's border, over its outer 16 px.

    It is the mean spectrum of the pixel lines parallel to the sides, each without its mean and with
    a Hann window. The band is too narrow for a ring spectrum.

    Returns:
        (BORDER_BINS,) in dB, from `LOWEST_FREQUENCY` to Nyquist, scaled as `radial_spectrum_db`.
    """
    pixels = image.astype(np.float32)
    lines = [pixels[:BORDER_PX], pixels[-BORDER_PX:], pixels.T[:BORDER_PX], pixels.T[-BORDER_PX:]]
    sums, count = np.zeros(BORDER_BINS), 0
    for band in lines:
        window = _hann(band.shape[1])
        centred = band - band.mean(axis=1, keepdims=True)
        power = _power(np.asarray(fft.rfft(centred * window))).mean(axis=0)
        power /= float((window.astype(np.float64) ** 2).sum())
        frequency = np.arange(power.size) / (band.shape[1] / 2)
        index = _bin_of(frequency, BORDER_BINS)
        totals = np.bincount(index, weights=power, minlength=BORDER_BINS + 1)[:BORDER_BINS]
        sums += totals / np.maximum(np.bincount(index, minlength=BORDER_BINS + 1)[:BORDER_BINS], 1)
        count += 1
    return 10 * np.log10(np.maximum(sums / count, TINY_POWER))


def log_spectral_distance(first: Spectrum, second: Spectrum) -> NDArray[np.float64]:
    """Return the root mean square over frequency of the difference of two spectra in dB.

    Args:
        first: (..., bins) in dB.
        second: (..., bins) in dB.
    """
    return np.sqrt(np.mean((first - second) ** 2, axis=-1))


def distance_by_scene(
    spectra: Spectrum,
    scenes: Sequence[str],
    reference: Mapping[str, Spectrum],
    *,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the distance between a method's and the reference's spectra, averaged over scenes.

    Spectra are averaged in dB, so that one tile of high power does not dominate its scene kind.

    Args:
        spectra: (T, bins) of the method's tiles, in dB.
        scenes: T kinds; kinds that the reference lacks are left out.
        reference: Mean spectrum of each kind.
        weights: (B, T) weight of each tile in each of B samples; one sample of ones if None.

    Returns:
        (B,) in dB; NaN where no kind is in both.
    """
    weights = np.ones((1, len(scenes))) if weights is None else weights
    sums, counts = np.zeros(len(weights)), np.zeros(len(weights))
    for scene in sorted(set(scenes) & set(reference)):
        member = np.array([other == scene for other in scenes])
        total = weights[:, member].sum(axis=1)
        # A sample may have drawn no tile of a kind.
        drawn = total > 0
        means = (weights[:, member] @ spectra[member]) / np.maximum(total, 1e-12)[:, None]
        sums += np.where(drawn, log_spectral_distance(means, reference[scene]), 0.0)
        counts += drawn
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def mean_by_scene(spectra: Spectrum, scenes: Sequence[str]) -> dict[str, Spectrum]:
    """Return the mean spectrum of each scene kind, in dB."""
    return {
        scene: spectra[[other == scene for other in scenes]].mean(axis=0)
        for scene in sorted(set(scenes))
    }


def split_half_floor(
    spectra: Spectrum, scenes: Sequence[str], *, splits: int = 50, seed: int = 0
) -> float:
    """Return the mean distance between two random halves of the reference.

    This is the distance that chance alone causes, at half the reference's size. Kinds with a single
    picture are ignored.

    Returns:
        Mean over `splits` random halvings, in dB; NaN where no kind has two pictures.
    """
    rng = np.random.default_rng(seed)
    distances = []
    for _ in range(splits):
        order = rng.permutation(len(scenes))
        first: list[int] = []
        second: list[int] = []
        for scene in sorted(set(scenes)):
            members = [int(number) for number in order if scenes[number] == scene]
            half = len(members) // 2
            first += members[:half]
            second += members[half : 2 * half]
        if not first:
            return float("nan")
        other = mean_by_scene(spectra[second], [scenes[number] for number in second])
        distance = distance_by_scene(spectra[first], [scenes[n] for n in first], other)
        distances.append(float(distance[0]))
    return float(np.mean(distances))


def histogram_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the Wasserstein distance W1 of two histograms over the same bins, in bins."""
    p, q = first / first.sum(), second / second.sum()
    return float(np.abs(np.cumsum(p - q)).sum())


def match_histogram(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Make the grey table that maps pictures of one histogram to the other histogram.

    Args:
        source: (256,) counts of the pictures to map.
        target: (256,) counts that they should have.

    Returns:
        (256,) uint8, never falling.
    """
    # The middle of each bin's share, so that equal histograms map to themselves.
    position = (np.cumsum(source) - source / 2) / source.sum()
    goal = (np.cumsum(target) - target / 2) / target.sum()
    filled = target > 0
    table = np.interp(position, goal[filled], np.flatnonzero(filled).astype(np.float64))
    return np.rint(table).astype(np.uint8)


def _power(transformed: NDArray[np.complex64]) -> NDArray[np.float32]:
    return np.real(transformed) ** 2 + np.imag(transformed) ** 2


@lru_cache(maxsize=8)
def _hann(length: int) -> NDArray[np.float32]:
    # Half-pixel centres: symmetric, and nowhere zero.
    return np.sin(np.pi * (np.arange(length) + 0.5) / length).astype(np.float32) ** 2


@lru_cache(maxsize=8)
def _rings(shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ring of each coefficient of `rfft2` (the last one is for the rest), and sizes."""
    y = np.abs(np.fft.fftfreq(shape[0]))[:, None] * 2
    x = np.fft.rfftfreq(shape[1])[None, :] * 2
    bins = _bin_of(np.hypot(y, x), SPECTRUM_BINS)
    counts = np.bincount(bins.ravel(), minlength=SPECTRUM_BINS + 1)[:SPECTRUM_BINS]
    return bins, np.maximum(counts, 1)


def _bin_of(frequency: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Number the bin of a frequency in units of Nyquist; `bins` for those outside all bins."""
    number = np.floor((frequency - LOWEST_FREQUENCY) / (1 - LOWEST_FREQUENCY) * bins)
    return np.where((number >= 0) & (number < bins), number, bins).astype(np.int64)
