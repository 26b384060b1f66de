"""Differences between two models' answers for one tile."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Differences of the shadow's answer from the served one.

    Attributes:
        grey: Mean absolute difference, grey levels.
        shift: Mean difference, shadow minus served, grey levels.
        above: Share of pixels that differ by more than the limit, 0 to 1.
        edges: Mean absolute difference of the gradients' magnitudes, in grey levels per LR pixel.
            The answers are averaged to LR pixels before, so that grain counts little.
    """

    grey: float
    shift: float
    above: float
    edges: float


def compare(
    served: npt.NDArray[np.uint8],
    shadow: npt.NDArray[np.uint8],
    *,
    scale: int,
    limit_grey: int,
) -> Differences:
    """Compare two answers.

    Args:
        served: (scale*H, scale*W) uint8, the served answer.
        shadow: Answer of the shadow, of the same shape.
        scale: Upscaling factor.
        limit_grey: Difference above which a pixel counts.

    Raises:
        ValueError: The shapes differ.
    """
    if served.shape != shadow.shape:
        raise ValueError(f"the answer is {shadow.shape}; expected {served.shape}")
    difference = shadow.astype(np.int16) - served
    size = np.abs(difference)
    edges = np.abs(_gradient(shadow, scale) - _gradient(served, scale))
    return Differences(
        grey=float(size.mean()),
        shift=float(difference.mean()),
        above=float((size > limit_grey).mean()),
        edges=float(edges.mean()),
    )


def _gradient(sr: npt.NDArray[np.uint8], scale: int) -> npt.NDArray[np.float32]:
    """Return the magnitudes of the gradient (H-2, W-2) after averaging to LR pixels."""
    height, width = (side // scale for side in sr.shape)
    blocks = sr.reshape(height, scale, width, scale)
    lr = blocks.mean(axis=(1, 3), dtype=np.float32)
    down = (lr[2:, 1:-1] - lr[:-2, 1:-1]) / 2
    right = (lr[1:-1, 2:] - lr[1:-1, :-2]) / 2
    return np.hypot(down, right)
