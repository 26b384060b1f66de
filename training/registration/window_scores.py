"""Likelihood of every shift, window by window.

The overlap is divided into windows. For each one and for every whole shift up to the maximum, the
score is the log-likelihood of the shift for white noise, up to a constant and in units of the
noise's variance: s_w(d) = g sum(u h_d) - g^2 / 2 sum(h_d^2), with the enlarged LR picture u, the HR
picture h_d moved back by d, and one gain g for the whole pair.

Two shifts are compared by the likelihood, against the noise, and by the windows: what one shift
explains better than another, window by window, has a mean and a standard error (`Preference`).
A fixed margin between correlations cannot tell "better" from noise: along a line, the roughness of
the edges changes the correlation by a few thousandths only, and yet in every window.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, stats

from training.registration.fields import Fields
from training.registration.filters import enlargement_noise_gain

Scores = NDArray[np.float64]

WINDOW_LR_PX = 15
MAX_WINDOWS_A_SIDE = 16
MIN_WINDOWS_A_SIDE = 2
"""Windows are at least `WINDOW_LR_PX` LR px a side, so that their noise is independent, and at most
16 x 16, which bounds the cost for large pictures."""

CHANCE = 1e-5
"""Probability that noise alone lets a shift look better. A search compares about a hundred
independent shifts."""

CLEAR_LOSS = 0.04
"""Share of the explained signal that is a clear loss even in few windows: a correlation that
falls by 2 %, as where a picture has structure at one place only."""

CLEAR_NOISE_RATIO = 6.0
"""Ratio to the noise at which a difference is clear even if a single window has it, such as one
defect in a grating. It is above chance by so much because HR's noise lets shifts differ too."""

EQUAL_LOSS = 0.0005
EQUAL_PEAK_LOSS = 0.003
"""Shares of the explained signal within which two positions on a ridge, and two peaks, are equal:
errors of interpolation. Those of peaks are larger, as their fractions differ along both axes."""


@dataclass(frozen=True)
class Preference:
    """What one shift explains better than another.

    Attributes:
        loss: Share of the signal explained by the first that the second does not explain.
        significance: Mean of the windows' differences by its standard error.
        windows: Number of windows.
        noise_ratio: Square root of the log-likelihood ratio: the structure by which the shifts
            differ, by the noise, as a matched filter sees it.
    """

    loss: float
    significance: float
    windows: int
    noise_ratio: float

    def is_clear(self, equal_loss: float = EQUAL_PEAK_LOSS) -> bool:
        """Whether the first shift is better than the second, beyond noise and interpolation."""
        if self.loss < equal_loss:
            return False
        return (
            self.loss >= CLEAR_LOSS
            or self.noise_ratio >= CLEAR_NOISE_RATIO
            or self.significance >= _significance_bound(self.windows)
        )


@dataclass(frozen=True)
class WindowScores:
    """Scores of every whole shift, |dy| and |dx| up to `max_shift_px`.

    Attributes:
        covariance: (windows, 2 R + 1, 2 R + 1), sum of u h_d over the window.
        energy: Same shape, sum of h_d^2.
        lr_energy: (windows,), sum of u^2.
        samples: Number of independent samples of LR's noise in all windows.
        sign: 1, or -1 for HR of inverted contrast.
    """

    covariance: NDArray[np.float32]
    energy: NDArray[np.float32]
    lr_energy: Scores
    samples: float
    sign: int = 1

    @property
    def max_shift_px(self) -> int:
        """R, the greatest shift."""
        return self.covariance.shape[1] // 2

    @cached_property
    def correlation(self) -> Scores:
        """(2 R + 1, 2 R + 1) correlation of the whole overlap at every shift, times the sign."""
        energy = self.energy.sum(0, dtype=np.float64) * self.lr_energy.sum()
        covariance = self.sign * self.covariance.sum(0, dtype=np.float64)
        return covariance / np.sqrt(np.maximum(energy, np.finfo(np.float32).tiny))

    @cached_property
    def best(self) -> tuple[int, int]:
        """Index of the most likely shift; subtract `max_shift_px` for the shift itself."""
        row, column = np.unravel_index(np.argmax(self.correlation), self.correlation.shape)
        return int(row), int(column)

    @cached_property
    def scores(self) -> Scores:
        """(windows, 2 R + 1, 2 R + 1) log-likelihoods at the gain of the best shift."""
        at = self.best
        gain = self.covariance[:, *at].sum(dtype=np.float64)
        gain /= max(self.energy[:, *at].sum(dtype=np.float64), float(np.finfo(np.float32).tiny))
        covariance = self.covariance.astype(np.float64)
        return gain * covariance - 0.5 * gain**2 * self.energy

    @cached_property
    def total(self) -> Scores:
        """(2 R + 1, 2 R + 1) log-likelihoods of the whole overlap."""
        return self.scores.sum(0)

    @cached_property
    def best_scores(self) -> Scores:
        """(windows,) log-likelihoods at the best shift, interpolated to a fraction of a pixel."""
        row, column = self.best
        rows = range(max(0, row - 1), min(self.total.shape[0], row + 2))
        across = np.stack(
            [interpolated(self.scores[:, r], self.total[r], column) for r in rows], axis=1
        )
        return interpolated(across, across.sum(0), row - rows.start)

    def preference(self, first: Scores, second: Scores) -> Preference:
        """Compare two shifts by their scores of each window, (windows,)."""
        difference = first - second
        explained = max(float(first.sum()), float(np.finfo(np.float32).tiny))
        density = max(float(self.lr_energy.sum()) - 2 * float(self.total.max()), 0) / self.samples
        ratio = max(float(difference.sum()), 0.0) / max(2 * density, 1e-9)
        error = float(difference.std(ddof=1)) / np.sqrt(len(difference))
        significance = float(difference.mean()) / error if error > 0 else 0.0
        return Preference(
            loss=float(difference.sum()) / explained,
            significance=significance,
            windows=len(difference),
            noise_ratio=float(np.sqrt(ratio)),
        )

    def of_opposite_contrast(self) -> "WindowScores":
        """Return the scores of the pair with HR inverted."""
        return replace(self, sign=-self.sign)


def score_windows(
    lr_band: NDArray[np.float32],
    hr_band: NDArray[np.float32],
    fields: Fields,
    *,
    max_shift_px: int,
) -> WindowScores:
    """Score every whole shift in every window.

    Args:
        lr_band: Enlarged LR picture without background, (scale h, scale w).
        hr_band: HR picture at LR's resolution, without background, (H, W).
        fields: Sizes of the pair.
        max_shift_px: Greatest shift from the centred position, HR px.

    Raises:
        ValueError: The pictures are too small for the windows.
    """
    rows, columns = (
        _windows(part, fields.scale, max_shift_px) for part in fields.searchable(max_shift_px)
    )
    top, left = (origin - max_shift_px for origin in fields.origin)
    reach = 2 * max_shift_px
    covariance, energy, lr_energy = [], [], []
    for row in rows:
        for column in columns:
            window = lr_band[row, column]
            around = hr_band[
                row.start + top : row.stop + top + reach,
                column.start + left : column.stop + left + reach,
            ]
            covariance.append(_covariances(window, around))
            energy.append(_energies(around, (window.shape[0], window.shape[1])))
            lr_energy.append(float(np.sum(window.astype(np.float64) ** 2)))
    area = sum(row.stop - row.start for row in rows) * sum(c.stop - c.start for c in columns)
    return WindowScores(
        covariance=np.stack(covariance),
        energy=np.stack(energy),
        lr_energy=np.array(lr_energy),
        samples=area * enlargement_noise_gain(fields.scale) / fields.scale**2,
    )


def interpolated(scores: Scores, total: Scores, at: int) -> Scores:
    """Return each window's score at the vertex of the parabola through a peak of the total.

    Args:
        scores: (windows, positions).
        total: (positions,), sum over the windows.
        at: Position of a peak; elsewhere the scores at the position itself are returned.
    """
    if at in (0, len(total) - 1):
        return scores[:, at]
    before, here, after = total[at - 1 : at + 2]
    curvature = before - 2 * here + after
    if here < max(before, after) or curvature >= 0:
        return scores[:, at]
    f = 0.5 * (before - after) / curvature
    weights = np.array([f * (f - 1) / 2, 1 - f * f, f * (f + 1) / 2])
    return scores[:, at - 1 : at + 2] @ weights


def _windows(part: slice, scale: int, max_shift_px: int) -> list[slice]:
    length = part.stop - part.start
    least = MIN_WINDOWS_A_SIDE * WINDOW_LR_PX * scale
    if length < least:
        raise ValueError(
            f"overlap is {max(length, 0)} HR px a side for shifts up to {max_shift_px} px, "
            f"expected at least {least}: give larger pictures or a smaller greatest shift"
        )
    count = min(MAX_WINDOWS_A_SIDE, length // (WINDOW_LR_PX * scale))
    side = length // count
    first = part.start + (length - count * side) // 2
    return [slice(first + side * k, first + side * (k + 1)) for k in range(count)]


def _covariances(window: NDArray[np.float32], around: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sum of window * around at every position of the window in `around`."""
    shape = [int(fft.next_fast_len(side, real=True) or side) for side in around.shape]
    spectrum = np.fft.rfft2(around, shape, (0, 1)) * np.conj(np.fft.rfft2(window, shape, (0, 1)))
    rows, columns = (a - w + 1 for a, w in zip(around.shape, window.shape, strict=True))
    # A copy, since a view keeps the whole transform in memory.
    return np.fft.irfft2(spectrum, shape, (0, 1))[:rows, :columns].astype(np.float32)


def _energies(around: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the sum of around^2 over a window of a shape at every position, by running sums."""
    sums = np.pad(np.cumsum(np.cumsum(around.astype(np.float64) ** 2, 0), 1), ((1, 0), (1, 0)))
    height, width = shape
    boxes = sums[height:, width:] - sums[:-height, width:]
    boxes += sums[:-height, :-width] - sums[height:, :-width]
    return boxes.astype(np.float32)


@lru_cache(maxsize=64)
def _significance_bound(windows: int) -> float:
    """Return the t value that noise exceeds with probability `CHANCE`."""
    return float(stats.t.isf(CHANCE, windows - 1))
