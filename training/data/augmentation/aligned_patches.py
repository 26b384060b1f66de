"""Natural patches at the same place of both images of a pair: the thesis's n1 and n2.

From such copies a network learns to pass on any structure that is not background. Grey levels are
those of the photograph, without a fit to the image's contrast and without grain, as in the thesis.
Unpaired images get patches by `augmentation.patches` instead.

Source: S. Chakraborty, *Super-Resolution of SEM Images*, MTech thesis, IIT Madras 2022.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.config.recipe import ConfigError
from training.data.augmentation.patch_source import PatchSource
from training.data.given_pairs import SourcePair

SIDES_PX = (16, 24, 40, 64, 96, 160)
"""Sides of patches, HR px, from small defects to what surrounds them; the thesis states none."""


def with_aligned_patches(
    pairs: Sequence[SourcePair],
    *,
    num_patches: int,
    num_copies: int,
    scale: int,
    source: PatchSource,
    seed: int,
    sides_px: Sequence[int] = SIDES_PX,
) -> list[SourcePair]:
    """Return the pairs, followed by `num_copies` copies of each with patches in both images.

    Args:
        pairs: N pairs; they stay unchanged.
        num_patches: Patches in each copy, n1.
        num_copies: Copies of each pair, n2.
        scale: s.
        source: Source of the patches.
        seed: Seed of everything drawn.
        sides_px: Sides that are drawn from, HR px.

    Returns:
        N (1 + n2) pairs. Copies that nothing is pasted into (n1 = 0) are the images themselves.

    Raises:
        ConfigError: A side is not a multiple of the scale, or greater than an image.
    """
    if num_patches and num_copies:
        _check_sides(pairs, sides_px, scale=scale)
    rng = np.random.default_rng((seed, scale, 5))
    copies = []
    for _ in range(num_copies):
        for pair in pairs:
            lr, hr = pair.lr.pixels, pair.hr.pixels
            if num_patches:
                lr, hr = lr.copy(), hr.copy()
            for _ in range(num_patches):
                side_px = int(sides_px[int(rng.integers(len(sides_px)))])
                paste_aligned(lr, hr, source.cut(rng, side_px=side_px), rng, scale=scale)
            copies.append(
                replace(pair, lr=replace(pair.lr, pixels=lr), hr=replace(pair.hr, pixels=hr))
            )
    return [*pairs, *copies]


def paste_aligned(
    lr: NDArray[np.uint8],
    hr: NDArray[np.uint8],
    patch: NDArray[np.float32],
    rng: np.random.Generator,
    *,
    scale: int,
) -> tuple[int, int]:
    """Paste a patch at one random place of both images, in place.

    The LR image gets the means of s x s px: at scale 1, where it has the size of the HR image, the
    same greys. (The thesis pasted into enlarged images: a patch was as sharp as in the target.)

    Args:
        lr: (H, W) uint8, changed.
        hr: (s*H, s*W) uint8, changed.
        patch: (a, b) float32 grey in [0, 255], a and b multiples of s, not greater than `hr`.
        rng: Source of the place.
        scale: s.

    Returns:
        Row and column of the patch in the LR image, px.
    """
    height, width = (side // scale for side in patch.shape)
    y = int(rng.integers(lr.shape[0] - height + 1))
    x = int(rng.integers(lr.shape[1] - width + 1))
    coarse = patch.reshape(height, scale, width, scale).mean(axis=(1, 3))
    for image, grey, factor in ((lr, coarse, 1), (hr, patch, scale)):
        rows = slice(factor * y, factor * (y + height))
        columns = slice(factor * x, factor * (x + width))
        image[rows, columns] = np.rint(grey).clip(0, 255).astype(np.uint8)
    return y, x


def _check_sides(pairs: Sequence[SourcePair], sides_px: Sequence[int], *, scale: int) -> None:
    uneven = [side for side in sides_px if side % scale]
    if uneven:
        raise ConfigError(
            f"patches have sides of {uneven} HR px; expected multiples of the scale {scale}"
        )
    greatest = max(sides_px)
    small = [pair.hr.name for pair in pairs if min(pair.hr.pixels.shape) < greatest]
    if small:
        raise ConfigError(f"HR images smaller than a patch of {greatest} px: {small}")
