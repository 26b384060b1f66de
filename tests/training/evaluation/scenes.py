"""Pictures with known answers, and a detector whose scores are known, for these tests."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

SIDE_PX = 256


@dataclass(frozen=True)
class Found:
    """A detection with the fields that the evaluation reads."""

    x_px: float
    y_px: float
    score: float


@dataclass(frozen=True)
class BlobDetector:
    """Finds blobs brighter than their surroundings; blind to everything else.

    The score is the excess over 100 grey levels, so that a blob of 60 levels scores about 0.5.
    """

    threshold: float = 0.25

    def find(self, image: NDArray[np.uint8]) -> list[Found]:
        """List the blobs of an (H, W) picture."""
        smooth = ndimage.gaussian_filter(image.astype(float), 3.0)
        # What runs along a row or a column is a line, not a blob.
        around = [np.median(smooth, axis=axis, keepdims=True) for axis in (0, 1)]
        excess = (smooth - np.maximum(*around)) / 100
        peaks = (excess == ndimage.maximum_filter(excess, 25)) & (excess > 0.02)
        return [
            Found(float(x), float(y), float(np.clip(excess[y, x], 0, 1)))
            for y, x in np.argwhere(peaks)
        ]


def film(*, blobs: list[tuple[int, int, float]]) -> NDArray[np.float64]:
    """Draw a flat film with bright blobs (x, y, amplitude), without noise."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    image = np.full((SIDE_PX, SIDE_PX), 60.0)
    for cx, cy, amplitude in blobs:
        image += amplitude * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 5.0**2))
    return image


def lines(*, offset_px: float = 0.0, width_px: float = 16.0) -> NDArray[np.float64]:
    """Draw upright lines of 32 px pitch with soft edges, without noise."""
    x = np.arange(SIDE_PX, dtype=float)
    distance = np.abs((x - offset_px) % 32 - 16) - width_px / 2
    profile = 40 + 60 / (1 + np.exp(distance / 0.8))
    return np.tile(profile, (SIDE_PX, 1))


def grey(image: NDArray[np.float64], *, noise: float = 0.0, seed: int = 0) -> NDArray[np.uint8]:
    """Add white noise and round."""
    noisy = image + noise * np.random.default_rng(seed).standard_normal(image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def shrunk(image: NDArray[np.float64], *, seed: int) -> NDArray[np.uint8]:
    """Make the LR tile of a scene: 4x4 means, brighter, noisier."""
    small = image.reshape(SIDE_PX // 4, 4, SIDE_PX // 4, 4).mean(axis=(1, 3))
    return grey(1.3 * small + 10, noise=5.0, seed=seed)


def save(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a PNG and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
