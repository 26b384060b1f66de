"""Crops of images: their sources, random places and turns, and flags of added structure."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from training.config.recipe import ConfigError
from training.data.augmentation.added_structure import Planted, StructureAdder
from training.data.images import SourceImage

IS_PLANTED, IS_FOREIGN = 1, 2
"""Bits of a pixel's flags: part of a planted defect, part of a foreign patch."""

CPU = torch.device("cpu")


class CropSource(Protocol):
    """Source of HR crops with the masks of their added structure."""

    def crop(self, rng: np.random.Generator, *, side_px: int, candidates: int) -> Planted:
        """Return a square crop, turned and flipped at random.

        Args:
            rng: Source of all draws.
            side_px: Side of the crop in HR pixels.
            candidates: Number of crops drawn from one image; the one with most contrast is used.
        """
        ...


class ImageCrops:
    """`CropSource` that cuts crops out of images and adds structure to each crop.

    Args:
        images: HR images.
        adder: Adder of structure; None adds nothing.
    """

    def __init__(self, images: Sequence[SourceImage], *, adder: StructureAdder | None) -> None:
        self.images = list(images)
        self._adder = adder

    def crop(self, rng: np.random.Generator, *, side_px: int, candidates: int) -> Planted:
        """See `CropSource`."""
        image = self.images[int(rng.integers(len(self.images)))].pixels
        drawn = [draw_crop(image, side_px, rng) for _ in range(candidates)]
        crop = max(drawn, key=np.std) if len(drawn) > 1 else drawn[0]
        crop = np.ascontiguousarray(turned(crop, draw_turn(rng)))
        if self._adder is not None:
            return self._adder.add(crop, rng)
        nothing = np.zeros(crop.shape, dtype=np.bool_)
        return Planted(pixels=crop, mask=nothing, foreign=nothing)


def flags_of(planted: Planted) -> NDArray[np.uint8]:
    """Return both masks as one array of flags, (H, W) uint8."""
    return (IS_PLANTED * planted.mask + IS_FOREIGN * planted.foreign).astype(np.uint8)


def draw_turn(rng: np.random.Generator) -> tuple[int, bool]:
    """Draw quarter turns, and whether to flip left and right afterwards."""
    return int(rng.integers(4)), bool(rng.integers(2))


def turned(image: NDArray[np.uint8], turn: tuple[int, bool]) -> NDArray[np.uint8]:
    """Return a view of an image (..., H, W), turned and flipped by the result of `draw_turn`."""
    quarters, is_flipped = turn
    image = np.rot90(image, quarters, axes=(-2, -1))
    return image[..., ::-1] if is_flipped else image


def unit_range(grey: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Return (N, H, W) grey levels as (N, 1, H, W) float32 in [0, 1]."""
    return torch.from_numpy(grey)[:, None].to(device).float() / 255.0


def draw_crop(
    pixels: NDArray[np.uint8], side_px: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a view of a square at a random place of an image (..., H, W)."""
    y = int(rng.integers(pixels.shape[-2] - side_px + 1))
    x = int(rng.integers(pixels.shape[-1] - side_px + 1))
    return pixels[..., y : y + side_px, x : x + side_px]


def check_sizes(images: Sequence[SourceImage], side_px: int) -> None:
    """Reject images smaller than a crop.

    Raises:
        ConfigError: An image is smaller; the message names all such images.
    """
    small = [image.name for image in images if min(image.pixels.shape) < side_px]
    if small:
        raise ConfigError(f"images smaller than a crop of {side_px} px: {small}")
