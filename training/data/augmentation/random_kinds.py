"""Planted regions of random outline: filled with a grey, tinted, or replaced by another place.

A network that trains on a few shapes specialises in them: late in a run it shows more planted
defects and fewer others. Regions from smooth noise have any shape, with holes and islands.

Source: V. Zavrtanik et al., *DRAEM*, ICCV 2021 (noise masks with foreign texture); H. M. Schlüter
et al., *Natural Synthetic Anomalies*, ECCV 2022 (places of the image itself).
"""

from typing import Literal

import numpy as np
from scipy import ndimage

from training.data.augmentation.basic_kinds import BLANK_CONTRAST, BORDER_PX
from training.data.augmentation.drawing import Drawing
from training.data.augmentation.outlines import Floats, blob, inside

DIAMETER_PX = (6.0, 80.0)
WAVINESS = 0.7
"""Standard deviation of the noise added to a region's signed distance, relative to its radius."""

OCTAVES = (0.5, 0.2)
"""Widths of that noise relative to the radius; amplitudes are proportional to the widths."""

SOFTNESS_PX = (0.8, 3.0)
FILL_REACH = 0.3
"""Share of the window's grey range by which a fill's grey may lie beyond that range."""

TINT = (0.05, 0.5)
"""Range of a tint's relative change of the grey, up or down."""

LEAST_MOVE_PX = 16
MOVED_SIGMA_PX = 1.0
"""How far away the place is that a region is taken from, and the blur against its grain: it gets
new grain."""

Edit = Literal["fill", "tint", "move"]
EDITS: tuple[Edit, ...] = ("fill", "tint", "move")


def random_region(grey: Floats, rng: np.random.Generator) -> Drawing:
    """Draw a random region that is filled with one grey, tinted, or shows another place."""
    distance = random_outline(grey.shape, rng)
    edit = EDITS[int(rng.integers(len(EDITS)))]
    weight = inside(distance, rng.uniform(*SOFTNESS_PX))
    body = distance > 0
    if edit == "tint":
        tint = rng.uniform(*TINT) * (1 if rng.integers(2) else -1)
        return Drawing(
            grey=np.zeros_like(grey),
            weight=np.zeros_like(grey),
            shade=1 + np.float32(tint) * weight,
            body=body,
        )
    return Drawing(
        grey=_moved(grey, rng) if edit == "move" else np.full_like(grey, _level(grey, rng)),
        weight=weight,
        shade=np.ones_like(grey),
        body=body,
    )


def random_outline(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Return the approximate distance to a random region's outline, in px, positive inside."""
    distance, _, radius_px = blob(shape, rng, diameter_px=DIAMETER_PX, margin_px=BORDER_PX)
    # Islands lie near the region, not all over the window.
    near = np.exp(-((np.minimum(distance, 0.0) / (0.6 * radius_px)) ** 2))
    waves = np.zeros_like(distance)
    for share in OCTAVES:
        sigma_px = max(share * radius_px, 1.0)
        white = rng.standard_normal(shape, dtype=np.float32)
        # A Gaussian of that width divides the deviation of white noise by 2 sqrt(pi) sigma.
        waves += share * 2 * np.sqrt(np.pi) * sigma_px * ndimage.gaussian_filter(white, sigma_px)
    return (distance + WAVINESS * radius_px * near * waves / OCTAVES[0]).astype(np.float32)


def _level(grey: Floats, rng: np.random.Generator) -> float:
    low, high = np.quantile(ndimage.gaussian_filter(grey, 1.0), (0.05, 0.95))
    # A blank film has no range of its own.
    reach = max(float(high - low), BLANK_CONTRAST * float(high)) * FILL_REACH
    return rng.uniform(max(float(low) - reach, 0.0), float(high) + reach)


def _moved(grey: Floats, rng: np.random.Generator) -> Floats:
    """Return the window shifted by a random distance with mirrored borders, without its grain."""
    moved = np.asarray(ndimage.gaussian_filter(grey, MOVED_SIGMA_PX), dtype=np.float32)
    for axis, side in enumerate(grey.shape):
        step = int(rng.integers(LEAST_MOVE_PX, 2 * side - LEAST_MOVE_PX))
        places = (np.arange(side) + step) % (2 * side)
        moved = np.take(moved, np.minimum(places, 2 * side - 1 - places), axis=axis)
    return moved.T if grey.shape[0] == grey.shape[1] and rng.integers(2) else moved
