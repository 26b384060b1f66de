"""Search for the beam spot and the lag whose edges resemble those of the LR images most."""

import numpy as np
from numpy.typing import NDArray

from training.data.estimation.image_statistics import ImageStatistics
from training.data.estimation.tone_matching import ToneCurve
from training.data.estimation.trials import NUM_DRAWS, Trials

SCANNED_SPOTS = np.array([0.0, 0.2, 0.4, 0.55, 0.7, 0.85, 1.0, 1.25, 1.5])
SPOT_STEP_PER_SCALE = 0.125
NUM_NEAR_SPOTS = 5
LAGS = np.array([0.0, 0.08, 0.16, 0.24])
NUM_TRIALS = SCANNED_SPOTS.size + NUM_NEAR_SPOTS * LAGS.size + 2
"""Trials: a row of spots, in LR px, a grid of spots around the best and of lags, then two more: the
best place of that grid with and without its spot."""

PARSIMONY = 1.06
LAG_PARSIMONY = 1.01
"""Factors of the misfit up to which no blur, or no lag, is preferred as the simpler answer."""


def scan_spots(trials: Trials, target: ImageStatistics, tone: ToneCurve) -> float:
    """Return the best of the `SCANNED_SPOTS`, in HR px, by the edges of the LR images."""
    spots = SCANNED_SPOTS * trials.scale
    misfits = [_misfit(trials, target, tone, spot_px=float(spot), lag=0.05) for spot in spots]
    return float(spots[int(np.argmin(misfits))])


def fit_edges(
    trials: Trials, target: ImageStatistics, tone: ToneCurve, *, near_px: float
) -> tuple[float, float]:
    """Return the spot in HR px and the lag whose edges are nearest to those of the LR images.

    The misfit is noisy: along x a lag resembles a spot, and the images with enough edges vary from
    trial to trial. A paraboloid is therefore fitted to a grid of trials; its minimum is the answer.
    """
    step_px = SPOT_STEP_PER_SCALE * trials.scale
    first_px = max(near_px - 2 * step_px, 0.0)
    spots = first_px + step_px * np.arange(NUM_NEAR_SPOTS)
    grid = np.array([(spot, lag) for spot in spots for lag in LAGS])
    misfits = np.array(
        [_misfit(trials, target, tone, spot_px=spot, lag=lag) for spot, lag in grid.tolist()]
    )
    # Low places count most: farther out the misfit grows straight, not as a square.
    weight = (misfits.min() / np.maximum(misfits, 1e-9)) ** 4
    surface, *_ = np.linalg.lstsq(_quadratic(grid) * weight[:, None], misfits * weight, rcond=None)
    fine = np.array(
        [
            (spot, lag)
            for spot in np.linspace(spots[0], spots[-1], 81)
            for lag in np.linspace(0.0, LAGS[-1], 61)
        ]
    )
    values = _quadratic(fine) @ surface
    spot_px, lag = fine[int(np.argmin(values))]
    without = values[fine[:, 1] == 0.0]
    if float(without.min()) <= LAG_PARSIMONY * float(values.min()):
        lag, spot_px = 0.0, fine[fine[:, 1] == 0.0][int(np.argmin(without)), 0]
    fitted = _misfit(trials, target, tone, spot_px=float(spot_px), lag=float(lag))
    sharp = _misfit(trials, target, tone, spot_px=0.0, lag=float(lag))
    return (0.0 if sharp <= PARSIMONY * fitted else float(spot_px)), float(lag)


def _quadratic(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the terms of a paraboloid at (spot, lag), (n, 6)."""
    spot, lag = places[:, 0], places[:, 1]
    terms = (np.ones_like(spot), spot, lag, spot**2, spot * lag, lag**2)
    return np.stack(terms, axis=1)


def _misfit(
    trials: Trials, target: ImageStatistics, tone: ToneCurve, *, spot_px: float, lag: float
) -> float:
    """Return the edges' distance from those of the LR images, summed over axes and noise draws."""
    coarse = trials.coarse(spot_px, lag)
    misfit = sum(
        sum(target.edge_distances(trials.finished(coarse, tone, draw=draw)))
        for draw in range(NUM_DRAWS)
    )
    trials.steps.update()
    return misfit
