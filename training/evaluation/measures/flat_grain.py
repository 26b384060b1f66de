"""Difference in dB between the grain of flat places and that of HR at equal grey.

Whole spectra depend on the layout too: if the LR run has fewer edges than the HR run, its spectrum
is lower regardless of the grain. This figure compares only flat pixels, and only at equal grey. It
uses `training.losses.flat_grain.grain_power`, which is also a training loss: recipes with that loss
optimise this figure directly.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.evaluation.folders.benchmark import Picture
from training.losses.flat_grain import TINY_VARIANCE, common_shares, grain_power

LEAST_PIXELS = 2000.0
"""Least number of flat pixels of a grey in both sets."""

Power = NDArray[np.float64]
"""(1 + bands, greys): number of flat pixels of each grey, then the sum of each band's squares."""


def flat_power(picture: Picture) -> Power:
    """Sum the grain power of a picture's flat places; the powers of a set's pictures add up.

    Args:
        picture: (H, W) grey levels.
    """
    image = torch.from_numpy(picture.astype(np.float32) / 255.0)[None, None]
    counts, powers = grain_power(image, image)
    return torch.cat([counts[None], powers]).double().numpy()


def flat_grain_db(power: Power, reference: Power) -> NDArray[np.float64]:
    """Return the root-mean-square difference of two sets' grain over bands and greys, in dB.

    Args:
        power: (..., 1 + bands, greys).
        reference: (1 + bands, greys).

    Returns:
        (...); NaN where no grey has enough flat pixels in both. Greys weigh by the smaller of both
        sets' shares of their flat pixels.
    """
    ours, theirs = torch.from_numpy(power), torch.from_numpy(reference)
    shares = common_shares(ours[..., 0, :], theirs[0], least_pixels=LEAST_PIXELS)
    levels = [
        10 * (part[..., 1:, :] / part[..., :1, :].clamp(min=1)).clamp(min=TINY_VARIANCE).log10()
        for part in (ours, theirs)
    ]
    squares = ((levels[0] - levels[1]) ** 2).mean(-2)
    found = ((shares * squares).sum(-1) / shares.sum(-1)).sqrt()
    return np.asarray(found.numpy(), dtype=np.float64)


def grain_by_scene(
    powers: Power,
    scenes: Sequence[str],
    reference: Mapping[str, Power],
    *,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Average `flat_grain_db` over the scene kinds that a method and the reference have in common.

    Args:
        powers: (T, 1 + bands, greys) of the method's tiles.
        scenes: T kinds.
        reference: Sum of each kind.
        weights: (B, T) weight of each tile in each of B samples; one sample of ones if None.

    Returns:
        (B,) in dB; NaN where nothing can be compared.
    """
    weights = np.ones((1, len(scenes))) if weights is None else weights
    distances = []
    for scene in sorted(set(scenes) & set(reference)):
        member = np.array([other == scene for other in scenes])
        summed = np.einsum("bt,tkg->bkg", weights[:, member], powers[member])
        distances.append(flat_grain_db(summed, reference[scene]))
    if not distances:
        return np.full(len(weights), np.nan)
    found = np.array(distances)
    known = np.isfinite(found)
    total = np.where(known, found, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
