"""Addition of foreign patches and planted defects to an HR crop or a whole HR image.

`patches` and `planting` draw the patches and the defects; crop sources and banks supply the images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config.added_structure import AddedStructureConfig
from training.config.degradation import DegradationConfig
from training.data.augmentation.patch_source import PatchSource, natural_source
from training.data.augmentation.patches import paste_patches
from training.data.augmentation.planting import plant_defects
from training.data.degradation.noise import estimate_noise
from training.data.degradation.visibility import CoarseScan, VisibilityRule

MAX_DEFECTS = 255
"""Greatest number of defects in one image; each defect's number must fit into a byte."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """An HR image with added structure, and the masks of that structure, (H, W) each.

    Attributes:
        pixels: Grey levels, uint8.
        mask: Mask of planted defects, bool.
        foreign: Mask of foreign patches, bool.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    foreign: NDArray[np.bool_]


class StructureAdder:
    """Adds patches and defects that match the images' grain and the recipe's visibility.

    Args:
        images: HR images of one tool, (H, W) uint8 each; the grain is measured once over all.
        added: Structure that is added.
        degradation: Ranges by which the images will be degraded.
        scale: s.
    """

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]],
        *,
        added: AddedStructureConfig,
        degradation: DegradationConfig,
        scale: int,
    ) -> None:
        self.added = added
        self._rule = VisibilityRule(
            scan=CoarseScan(degradation=degradation, scale=scale),
            least=added.min_detectability,
            most=added.max_detectability,
            drawn_share=added.faint_share,
        )
        self._noise = estimate_noise(images)
        self._patch_source = _patch_source(images, added)

    def add(self, image: NDArray[np.uint8], rng: np.random.Generator, *, crops: int = 1) -> Planted:
        """Add structure to an image.

        Args:
            image: (H, W) uint8.
            rng: Source of all draws.
            crops: Number of crops whose structure it gets: 1 for a crop, the ratio of the areas
                for a larger image.
        """
        added = self.added
        foreign = np.zeros(image.shape, dtype=np.bool_)
        if self._patch_source is not None:
            with_patches = sum(rng.random() < added.patch_share for _ in range(crops))
            if with_patches:
                image, foreign = paste_patches(
                    image,
                    rng,
                    count=with_patches * added.patches,
                    source=self._patch_source,
                    noise=self._noise,
                    sides_px=added.patch_sides_px,
                    is_rounded=added.rounded_patches,
                    rule=self._rule,
                )
        least, most = added.planted
        count = sum(int(rng.integers(least, most + 1)) for _ in range(crops)) if most else 0
        if not count:
            return Planted(pixels=image, mask=np.zeros_like(foreign), foreign=foreign)
        image, number = plant_defects(
            image,
            rng,
            count=min(count, MAX_DEFECTS),
            kinds=added.kinds,
            noise=self._noise,
            rule=self._rule,
        )
        return Planted(pixels=image, mask=number > 0, foreign=foreign)


def _patch_source(
    images: Sequence[NDArray[np.uint8]], added: AddedStructureConfig
) -> PatchSource | None:
    if not added.patch_share:
        return None
    source = natural_source()
    if not added.own_patch_share:
        return source
    return source.with_own(images, share=added.own_patch_share)
