"""Pasting of foreign patches into training images.

Training images show only a few defect-free patterns. From pasted patches the network learns to
preserve any other structure. The patches come from the photographs in scikit-image's wheel, from
two synthetic families with the statistics of natural pictures, and from other places of the
training images.

There are two uses. For pseudo-pairs, patches are pasted into HR images, which are then degraded.
For unpaired training, patches are pasted independently into HR and LR images, reduced to LR pixels
by area means; every image gets `num_copies` copies with patches.

Source: S. Chakraborty, *Super-Resolution of SEM Images*, MTech thesis, IIT Madras 2022 (natural
patches, their number and the number of copies); C.-L. Li et al., *CutPaste*, CVPR 2021, for patches
of the training images themselves.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.augmentation.outlines import EDGE_SIGMA_PX, blob, inside
from training.data.augmentation.patch_source import RANGE_QUANTILES, Floats, PatchSource
from training.data.degradation.noise import NoiseModel
from training.data.degradation.visibility import VisibilityRule

SIDES_PX = (16, 160)
"""Least and greatest side of a patch in HR pixels: the sizes of defects and what surrounds them."""

CONTRAST = (0.4, 1.0)
"""Contrast of a patch as a share of the image's own range."""

MASK_WEIGHT = 0.02
"""Least share of a patch in a pixel's grey; the edge of a rounded patch is cut off there."""


def paste_patches(
    image: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    count: int,
    source: PatchSource,
    shrink: int = 1,
    noise: NoiseModel | None = None,
    sides_px: tuple[float, float] = SIDES_PX,
    is_rounded: bool = False,
    rule: VisibilityRule | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Paste patches at random places of an image.

    Args:
        image: (H, W) uint8, HR or LR.
        rng: Source of places, sizes, contrasts and patches.
        count: Number of patches; later ones may cover earlier ones.
        source: Source of the patches.
        shrink: 1 for an HR image; for an LR image the scale s: patches are drawn at HR size and
            averaged over s x s pixels.
        noise: Noise model of the image; the patches get as much of it, so that structure does not
            come with less grain than background. None adds nothing.
        sides_px: Least and greatest side in HR pixels.
        is_rounded: Whether patches are cut out along random rounded outlines, soft as the image's
            edges, rather than as a rectangle. HR images only.
        rule: Visibility that a patch must have in the scan to come: fainter patches are left
            out, others weakened to a drawn detectability; None sets no rule.

    Returns:
        A copy with the patches in it, and where they are, both (H, W); outside, nothing changes.
        A patch's grey lies in the image's own range (2 to 98 % of its pixels, or half to one and a
        half of the median where that is wider: a blank film has no range of its own).

    Raises:
        ValueError: The count is negative or `shrink` below 1.
    """
    if count < 0 or shrink < 1 or (is_rounded and shrink > 1):
        raise ValueError(
            f"expected count >= 0 and shrink >= 1 (1 for rounded ones), got {count} and {shrink}"
        )
    low, high = _range(image)
    pasted = image.copy()
    mask = np.zeros(image.shape, dtype=np.bool_)
    for _ in range(count):
        height, width = (
            _draw_side(rng, sides_px, limit=side, shrink=shrink) for side in image.shape
        )
        patch = source.draw(rng, height_px=height * shrink, width_px=width * shrink)
        patch = patch.reshape(height, shrink, width, shrink).mean(axis=(1, 3))
        reach = 0.5 * (high - low) * rng.uniform(*CONTRAST)
        grey = rng.uniform(low + reach, high - reach) + reach * patch
        y = int(rng.integers(image.shape[0] - height + 1))
        x = int(rng.integers(image.shape[1] - width + 1))
        box = (slice(y, y + height), slice(x, x + width))
        weight = np.ones(grey.shape, dtype=np.float32)
        if is_rounded:
            side = min(height, width)
            outline, _, _ = blob(
                grey.shape, rng, diameter_px=(0.6 * side, 0.95 * side), margin_px=0.0
            )
            weight = inside(outline, EDGE_SIGMA_PX)
            weight[weight <= MASK_WEIGHT] = 0
            grey = (1 - weight) * pasted[box] + weight * grey
        if rule is not None:
            share = _visible_share(pasted, box, grey, rule, rule.draw(rng))
            if share is None:
                continue
            if share < 1:
                weight = share * weight
                grey = pasted[box] + share * (grey - pasted[box])
        if noise is not None:
            # What is covered has lost its grain; the patch brings as much of its own.
            variance = noise.variance(grey) * (1 - (1 - weight) ** 2)
            grey = grey + np.sqrt(variance) * rng.standard_normal(grey.shape)
        pasted[box] = np.rint(grey).clip(0, 255).astype(np.uint8)
        mask[box] |= weight > 0
    return pasted, mask


def _visible_share(
    image: NDArray[np.uint8],
    box: tuple[slice, slice],
    grey: Floats,
    rule: VisibilityRule,
    wanted: float | None,
) -> float | None:
    """Return the opacity at which a patch has the wanted d'; None if its d' is too low at 1."""
    if rule.drawn_share == 0:
        return rule.fading(image[box].astype(np.float32), grey, wanted)
    # With its surroundings, which the spot mixes with it, and on the grid of LR pixels.
    scale = rule.scan.scale
    rows, columns = (
        slice(max(side.start - 2 * scale, 0) // scale * scale, side.stop + 3 * scale)
        for side in box
    )
    before = image[rows, columns].astype(np.float32)
    after = before.copy()
    top, left = box[0].start - rows.start, box[1].start - columns.start
    after[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return rule.fading(before, after, wanted)


def augment_with_patches(
    images: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
    *,
    num_patches: int,
    num_copies: int,
    source: PatchSource,
    shrink: int = 1,
    noise: NoiseModel | None = None,
) -> list[NDArray[np.uint8]]:
    """Return the images, followed by `num_copies` copies of each with `num_patches` patches.

    `paste_patches` describes the other arguments. The thesis names the two numbers n1 and n2.
    """
    copies = [
        paste_patches(image, rng, count=num_patches, source=source, shrink=shrink, noise=noise)[0]
        for _ in range(num_copies)
        for image in images
    ]
    return [*images, *copies]


def _range(image: NDArray[np.uint8]) -> tuple[float, float]:
    low, middle, high = np.quantile(image, (RANGE_QUANTILES[0], 0.5, RANGE_QUANTILES[1]))
    return min(float(low), 0.5 * float(middle)), max(float(high), min(1.5 * float(middle), 255.0))


def _draw_side(
    rng: np.random.Generator, sides_px: tuple[float, float], *, limit: int, shrink: int
) -> int:
    """Draw a side log-uniformly, in the image's pixels."""
    low, high = (np.log(side / shrink) for side in sides_px)
    return max(1, min(round(float(np.exp(rng.uniform(low, high)))), limit))
