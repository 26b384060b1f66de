"""Noise that the sons of a noisy tile lack.

Shrinking averages the noise away: a network trained on such sons sees hardly any, and would sharpen
the noise of the tile itself. The sons therefore get back what they lost. The published code adds a
fixed deviation (0.0125 of the range) for real images.
"""

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
    sons: torch.Tensor, *, tile: NoiseModel, father: NoiseModel, factor: int
) -> torch.Tensor:
    """Return the deviation of the noise that a son lacks to be as noisy as the tile.

    The remaining noise of the son follows from the kernel that shrinks it: for white noise this is
    exact, while a measurement on a son of 32 px would take its structure for noise.

    Args:
        sons: (..., H, W) in 0..1; the deviation depends on their greys.
        tile: Noise of the picture that the network is for.
        father: Noise of the picture that the sons were made from.
        factor: Factor by which they were shrunk.

    Returns:
        Same shape, of the range 0..1; zero where the son is as noisy already.
    """
    grey = sons.clamp(0.0, 1.0) * PEAK
    kept = noise_gain(factor)
    variance = (tile.base - kept * father.base) + (tile.slope - kept * father.slope) * grey
    return variance.clamp(min=0.0).sqrt() / PEAK
