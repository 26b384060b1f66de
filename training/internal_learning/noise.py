"""Noise that the sons of a noisy tile lack.

Shrinking averages the noise away: a network trained on such sons sees hardly any, and would sharpen
the noise of the tile itself. The sons therefore get back what they lost. The published code adds a
fixed deviation (0.0125 of the range) for real images.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.degradation.noise import NoiseModel, fit_noise, measure_noise
from training.ground.quality import noise_sigma
from training.internal_learning.resize import noise_gain

PEAK = 255.0


def estimate_tile_noise(tile: NDArray[np.uint8]) -> NoiseModel:
    """Estimate the noise of one tile, as `estimate_noise` does for a set of images.

    Args:
        tile: (H, W) uint8. Where no range of its greys has enough flat pixels (a small tile), one
            variance holds for all greys, from the second differences of the whole tile.
    """
    samples = measure_noise([tile])
    if samples.grey.size == 0:
        return NoiseModel(base=noise_sigma(tile) ** 2, slope=0.0)
    return fit_noise(samples)


def lost_deviation(
    sons: torch.Tensor,
    *,
    tiles: Sequence[NoiseModel],
    fathers: Sequence[NoiseModel],
    factor: int,
) -> torch.Tensor:
    """Return the deviation of the noise that sons lack to be as noisy as their tiles.

    The remaining noise of a son follows from the kernel that shrinks it: for white noise this is
    exact, while a measurement on a son of 32 px would take its structure for noise.

    Args:
        sons: (T, H, W) in 0..1; the deviation depends on their greys.
        tiles: Noise of the picture that each network is for.
        fathers: Noise of the picture that each son was made from.
        factor: Factor by which they were shrunk.

    Returns:
        Same shape, of the range 0..1; zero where a son is as noisy already.
    """
    kept = noise_gain(factor)
    pairs = list(zip(tiles, fathers, strict=True))
    missing = [
        [tile.base - kept * father.base for tile, father in pairs],
        [tile.slope - kept * father.slope for tile, father in pairs],
    ]
    base, slope = torch.tensor(missing, dtype=sons.dtype, device=sons.device)[..., None, None]
    variance = base + slope * sons.clamp(0.0, 1.0) * PEAK
    return variance.clamp(min=0.0).sqrt() / PEAK
