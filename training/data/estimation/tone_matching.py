"""Fit of the tone curve between two sets of images of different scenes, by grey quantiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from training.data.estimation.edge_profiles import match_images

Floats = NDArray[np.float32]

NUM_QUANTILES = 48
SMOOTHING_PX = 1.0
"""Blur before the quantiles; it removes noise, which widens the sets' distributions differently."""

KEPT_SHARE = 0.8
"""Share of the LR images, those with the best matches; others may show scenes that HR lacks."""

MAX_ROUNDS = 10
GAMMA_PENALTY_GREY = 2.0
"""Grey levels of misfit that a gamma of e or 1/e costs: where a set shows few levels, gain and
gamma cannot be separated, and then the straight curve is the better guess."""


@dataclass(frozen=True, kw_only=True)
class ToneCurve:
    """Tone curve lr = 255 * gain * (hr / 255)^gamma + offset, in grey levels clipped to 0..255."""

    gain: float
    gamma: float
    offset_grey: float

    def apply(self, grey: NDArray[np.floating]) -> NDArray[np.floating]:
        """Map HR grey to LR grey, any shape."""
        power = np.clip(grey / 255.0, 0.0, 1.0) ** self.gamma
        return np.clip(255.0 * self.gain * power + self.offset_grey, 0.0, 255.0)

    def slope(self, grey: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the derivative at HR grey values."""
        return self.gain * self.gamma * np.clip(grey / 255.0, 1e-3, 1.0) ** (self.gamma - 1)

    def inverse(self, grey: NDArray[np.floating]) -> NDArray[np.floating]:
        """Map LR grey back to HR grey, clipped to 0..255."""
        share = np.clip((grey - self.offset_grey) / (255.0 * max(self.gain, 1e-6)), 0.0, 1.0)
        return 255.0 * share ** (1.0 / self.gamma)


NEUTRAL_TONE = ToneCurve(gain=1.0, gamma=1.0, offset_grey=0.0)


def grey_quantiles(images: Sequence[Floats]) -> NDArray[np.float64]:
    """Return each image's grey quantiles after light smoothing, (n, NUM_QUANTILES)."""
    levels = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
    smooth = (ndimage.gaussian_filter(image, SMOOTHING_PX) for image in images)
    return np.array([np.quantile(image, levels) for image in smooth])


def fit_tone(
    coarse: NDArray[np.float64], lr: NDArray[np.float64], *, start: ToneCurve = NEUTRAL_TONE
) -> tuple[ToneCurve, float]:
    """Fit the tone curve that maps one set's grey quantiles to the other's.

    Each round matches images one to one under the current curve, then fits the curve to the
    matched images. The rounds end when the misfit no longer decreases.

    Args:
        coarse: (n, NUM_QUANTILES) of the HR images on the LR grid, with LR's noise or none.
        lr: (m, NUM_QUANTILES) of the LR images.
        start: Curve of the first matching.

    Returns:
        The curve, and the mean Wasserstein-1 distance of matched images under it in grey levels.
    """
    # A first, rough curve by the pooled levels, so that the first matching is not led by the shift.
    pooled_hr, pooled_lr = (np.quantile(side, (0.1, 0.9)) for side in (start.apply(coarse), lr))
    stretch = float(np.ptp(pooled_lr) / max(float(np.ptp(pooled_hr)), 1e-6))
    parameters = np.array(
        [
            start.gain * stretch,
            np.log(start.gamma),
            float(pooled_lr[0] - stretch * pooled_hr[0]) + stretch * start.offset_grey,
        ]
    )
    best: tuple[ToneCurve, float] | None = None
    for _ in range(MAX_ROUNDS):
        moved = _curve(parameters).apply(coarse)
        rows, columns = match_images(
            np.abs(moved[:, None] - lr[None]).mean(axis=2), kept_share=KEPT_SHARE
        )
        parameters = _fit_matched(coarse[rows], lr[columns], parameters)
        misfit = _misfit(parameters, coarse[rows], lr[columns])
        if best is not None and misfit > best[1] - 1e-3:
            break
        best = (_curve(parameters), misfit)
    return best if best is not None else (start, float("inf"))


def tone_distance(coarse: NDArray[np.float64], lr: NDArray[np.float64], curve: ToneCurve) -> float:
    """Return the mean Wasserstein-1 distance in grey levels of matched images under a curve."""
    distances = np.abs(curve.apply(coarse)[:, None] - lr[None]).mean(axis=2)
    rows, columns = match_images(distances, kept_share=KEPT_SHARE)
    return float(distances[rows, columns].mean())


def _curve(parameters: NDArray[np.float64]) -> ToneCurve:
    gain, log_gamma, offset = (float(value) for value in parameters)
    return ToneCurve(gain=max(gain, 0.0), gamma=float(np.exp(log_gamma)), offset_grey=offset)


def _misfit(
    parameters: NDArray[np.float64], coarse: NDArray[np.float64], lr: NDArray[np.float64]
) -> float:
    distance = float(np.abs(_curve(parameters).apply(coarse) - lr).mean())
    return distance + GAMMA_PENALTY_GREY * abs(float(parameters[1]))


def _fit_matched(
    coarse: NDArray[np.float64], lr: NDArray[np.float64], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    steps = np.diag([0.1, 0.1, 5.0])
    fit = optimize.minimize(
        _misfit,
        start,
        args=(coarse, lr),
        method="Nelder-Mead",
        options={
            "initial_simplex": np.vstack([start, start + steps]),
            "xatol": 1e-3,
            "fatol": 1e-3,
            "maxfev": 600,
        },
    )
    return np.asarray(fit.x)
