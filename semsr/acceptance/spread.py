"""How far a few of the own HR images lie from the others: what chance alone does to the figures.

A handful of held-out tiles shows a handful of places. The same number of HR images, drawn from the
folder, differs from the rest of it too; no model can be asked to be nearer.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.evaluation.folders.benchmark import Picture
from training.evaluation.measures.background import log_spectral_distance, radial_spectrum_db
from training.evaluation.measures.flat_grain import flat_grain_db, flat_power
from training.ground.progress import tracked
from training.ground.quality import noise_sigma

DRAWS = 400
SHARE = 0.95
"""Share of the draws that lies within a limit."""


def hr_spread(hr: Sequence[Picture], *, count: int, seed: int) -> dict[str, float]:
    """Return the limits that `SHARE` of random draws of HR images keep.

    Args:
        hr: HR images, (H, W) uint8.
        count: Number of held-out tiles; at most half of the HR images are drawn.
        seed: Seed of the draws.

    Returns:
        `spectrum_db` and `flat_grain_db` (distances of a draw from the others), `noise_low` and
        `noise_high` (their noise over that of the others), and `count` (images of a draw); {} for
        fewer than four images. `flat_grain_db` is missing where no grey is in both.
    """
    if len(hr) < 4:
        return {}
    spectra, powers, noises = [], [], []
    for picture in tracked(hr, "measuring the spread of HR", unit="picture"):
        spectra.append(radial_spectrum_db(picture))
        powers.append(flat_power(picture))
        noises.append(noise_sigma(picture))
    drawn = min(count, len(hr) // 2)
    rng = np.random.default_rng(seed)
    rows: dict[str, list[float]] = {"spectrum": [], "grain": [], "noise": []}
    spectrum, power, noise = np.array(spectra), np.array(powers), np.array(noises)
    for _ in range(DRAWS):
        order = rng.permutation(len(hr))
        few, others = order[:drawn], order[drawn:]
        rows["spectrum"].append(
            float(log_spectral_distance(spectrum[few].mean(axis=0), spectrum[others].mean(axis=0)))
        )
        rows["grain"].append(
            float(flat_grain_db(power[few].sum(axis=0), power[others].sum(axis=0)))
        )
        if noise[others].mean() > 0:
            rows["noise"].append(float(noise[few].mean() / noise[others].mean()))
    found = {"count": float(drawn), "spectrum_db": _upper(rows["spectrum"])}
    grain = [value for value in rows["grain"] if np.isfinite(value)]
    if grain:
        found["flat_grain_db"] = _upper(grain)
    if rows["noise"]:
        tail = (1 - SHARE) / 2
        low, high = np.quantile(rows["noise"], (tail, 1 - tail))
        found |= {"noise_low": float(low), "noise_high": float(high)}
    return found


def _upper(values: Sequence[float] | NDArray[np.float64]) -> float:
    return float(np.quantile(values, SHARE))
