"""Sources of foreign patches: photographs, synthetic pictures, and the training images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from training.data.augmentation.synthetic_pictures import dead_leaves, pink_noise

Floats = NDArray[np.float32]

NATURAL_PICTURES = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "rocket.jpg",
    "text.png",
)
SYNTHETIC_SHARE = 0.3
"""Share of the patches that are synthetic, half of them dead leaves, half 1/f noise."""

RANGE_QUANTILES = (0.02, 0.98)
OWN_SIGMA_PX = 1.0
"""Blur of the training images before patches are cut out of them, against their grain."""

ATTEMPTS = 8
MIN_SPREAD_GREY = 6.0
"""Least standard deviation of a patch, in grey levels; flatter patches are drawn again."""


@dataclass(frozen=True, kw_only=True)
class PatchSource:
    """Source of foreign patches.

    Attributes:
        pictures: (H, W) float32 grey in [0, 255] each.
        synthetic_share: Share of the patches that are drawn, not cut out.
        own: Pictures made from the training images; see `with_own`.
        own_share: Share of the patches that are cut out of `own`; the others follow the rest.
    """

    pictures: tuple[Floats, ...]
    synthetic_share: float = SYNTHETIC_SHARE
    own: tuple[Floats, ...] = ()
    own_share: float = 0.0

    def with_own(self, images: Sequence[NDArray[np.uint8]], *, share: float) -> "PatchSource":
        """Return this source with patches of the training images added.

        A blur removes most of their grain, because pasted patches get new grain.

        Args:
            images: (H, W) uint8 each.
            share: Share of the patches.
        """
        smooth = (
            np.asarray(ndimage.gaussian_filter(image.astype(np.float32), OWN_SIGMA_PX))
            for image in images
        )
        return replace(self, own=tuple(smooth), own_share=share)

    def draw(self, rng: np.random.Generator, *, height_px: int, width_px: int) -> Floats:
        """Return a patch, (height_px, width_px) float32, with mean about 0 and values in -1 to 1.

        It is turned, flipped and inverted at random.
        """
        side = max(height_px, width_px)
        patch = np.zeros((side, side), dtype=np.float32)
        for _ in range(ATTEMPTS):
            patch = self._draw_square(rng, side)
            if float(patch.std()) >= MIN_SPREAD_GREY:
                break
        patch = np.rot90(patch, int(rng.integers(4)))
        patch = patch[:, :: 1 if rng.integers(2) else -1][:height_px, :width_px]
        patch = patch - patch.mean()
        sign = 1 if rng.integers(2) else -1
        peak = float(np.quantile(np.abs(patch), RANGE_QUANTILES[1]))
        return (sign * patch / max(peak, 1e-3)).clip(-1.0, 1.0).astype(np.float32)

    def cut(self, rng: np.random.Generator, *, side_px: int) -> Floats:
        """Return a square of a photograph as it is, (side_px, side_px) float32 grey in [0, 255]."""
        return _cut(self.pictures, rng, side_px)

    def _draw_square(self, rng: np.random.Generator, side: int) -> Floats:
        if self.own_share and rng.uniform() < self.own_share:
            return _cut(self.own, rng, side)
        draw = rng.uniform()
        if not self.pictures or draw < 0.5 * self.synthetic_share:
            return dead_leaves(side, rng)
        if draw < self.synthetic_share:
            return pink_noise(side, rng)
        return _cut(self.pictures, rng, side)


@cache
def natural_source() -> PatchSource:
    """Return the source of scikit-image's photographs; each process reads them once.

    Raises:
        FileNotFoundError: scikit-image is not installed, or lacks a photograph.
    """
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("patches need scikit-image (the extra `train`), not installed")
    folder = Path(spec.origin).parent / "data"
    return PatchSource(pictures=tuple(_read(folder / name) for name in NATURAL_PICTURES))


def _read(path: Path) -> Floats:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"), dtype=np.float32)


def _cut(pictures: Sequence[Floats], rng: np.random.Generator, side: int) -> Floats:
    picture = pictures[int(rng.integers(len(pictures)))]
    if min(picture.shape) < side:
        factor = side / min(picture.shape)
        picture = np.asarray(ndimage.zoom(picture, factor * 1.01, order=1), dtype=np.float32)
    y = int(rng.integers(picture.shape[0] - side + 1))
    x = int(rng.integers(picture.shape[1] - side + 1))
    return picture[y : y + side, x : x + side]
