"""Planting of defects in HR images, for pseudo-pairs whose structure the network must preserve.

Defects are planted in an HR image, which is then degraded: training sees the LR defect and its HR
truth. Recipes plant the four `PLANTED_KINDS` unless they name other `PLANTABLE_KINDS`. The
benchmark's recipes plant no others, because its evaluation checks whether unseen kinds (missing
holes, scratches, protrusions, voids, ...) survive.

A defect is drawn by the function of its kind (`basic_kinds`, `extended_kinds`, `random_kinds`). It
is then weakened to a drawn detectability (`training.data.degradation.visibility`) and gets the
image's noise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.data.augmentation.basic_kinds import BORDER_PX, bridge, broken_line, particle, stain
from training.data.augmentation.drawing import Drawing
from training.data.augmentation.extended_kinds import edge_bump, fallen_bar
from training.data.augmentation.line_shapes import Floats
from training.data.augmentation.random_kinds import random_region
from training.data.degradation.noise import NoiseModel, estimate_noise
from training.data.degradation.visibility import VisibilityRule

Pixel = TypeVar("Pixel", np.uint8, np.float32)

MIN_SIDE_PX = 96
WINDOW_PX = 72
"""Half the side of the window in which a defect is drawn and from which its levels are taken."""

BAR_WINDOW_PX = 216
"""Half the side of the window of a fallen bar, which is longer than other defects."""

CLEARANCE_PX = 6
"""Least distance of a defect's body from the other defects."""

ATTEMPTS = 12
"""Places tried for one defect before it is skipped. After half of them, a kind that needs lines is
replaced by a particle or a stain."""

MIN_CHANGE_GREY = 2.5
"""Least mean change over a defect's body, if the rule draws no d'. With a drawn d', that d' alone
decides, since a large defect is visible at a smaller change."""


@dataclass(frozen=True)
class _Kind:
    """One kind of planted defect.

    Attributes:
        draw: Function that draws the defect into a window; None if the window has no place for it.
        window_px: Half the side of the window.
        needs_lines: Whether the kind needs lines; another kind replaces it if none are found.
    """

    draw: Callable[[Floats, np.random.Generator], Drawing | None]
    window_px: int = WINDOW_PX
    needs_lines: bool = False


_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "bridge": _Kind(bridge, needs_lines=True),
        "break": _Kind(broken_line, needs_lines=True),
        "particle": _Kind(particle),
        "stain": _Kind(stain),
        "fallen_bar": _Kind(fallen_bar, window_px=BAR_WINDOW_PX),
        "edge_bump": _Kind(edge_bump, needs_lines=True),
        "random_region": _Kind(random_region),
    }
)

PLANTABLE_KINDS = tuple(_KINDS)
"""Every kind that a recipe may ask for."""

PLANTED_KINDS = PLANTABLE_KINDS[:4]
"""Default kinds. The benchmark's unseen kinds are not among them."""


def plant_defects(
    hr: NDArray[Pixel],
    rng: np.random.Generator,
    *,
    count: int,
    kinds: Sequence[str] | None = None,
    noise: NoiseModel | None = None,
    rule: VisibilityRule | None = None,
) -> tuple[NDArray[Pixel], NDArray[np.uint8]]:
    """Plant defects of random kinds at random places.

    Args:
        hr: (H, W) uint8 grey, or float32 in [0, 1]; at least 96 px a side.
        rng: Source of kinds, places, shapes and noise.
        count: Number of defects to plant, 0 to 255. Fewer are planted where no free place is found;
            a bridge or break that finds no fitting lines becomes a particle or stain.
        kinds: Kinds to draw from, of `PLANTABLE_KINDS`; `PLANTED_KINDS` by default.
        noise: Noise of the image; by default estimated from it, so pass that of the whole set
            where it is known.
        rule: Visibility that a defect must have in the scan to come; None sets no rule.

    Returns:
        The image with defects, a copy of the same type and range; and the mask, (H, W) uint8: 0
        where no defect is, k on the k-th. Beyond a shadow's reach of the mask nothing changes.

    Raises:
        ValueError: The image is too small or of another type, the count is out of range, or a kind
            is unknown.
    """
    names = list(PLANTED_KINDS if kinds is None else kinds)
    _check(hr, count=count, kinds=names)
    full = 1.0 if hr.dtype == np.uint8 else 255.0
    grey = hr.astype(np.float32) * np.float32(full)
    if noise is None:
        noise = estimate_noise([np.rint(grey).clip(0, 255).astype(np.uint8)])
    mask = np.zeros(hr.shape, dtype=np.uint8)
    for _ in range(count):
        kind = names[int(rng.integers(len(names)))]
        wanted = rule.draw(rng) if rule else None
        for attempt in range(ATTEMPTS):
            if attempt == ATTEMPTS // 2 and _KINDS[kind].needs_lines:
                kind = ("particle", "stain")[int(rng.integers(2))]
            window = _draw_window(grey.shape, rng, half_px=_KINDS[kind].window_px)
            drawing = _KINDS[kind].draw(grey[window].copy(), rng)
            if drawing is None or not _fits(drawing, mask[window]):
                continue
            drawing = _as_visible(drawing, grey[window], rule, wanted)
            if drawing is None:
                continue
            _apply(drawing, grey, mask, window, rng, noise=noise)
            break
    if hr.dtype == np.uint8:
        grey = np.rint(grey)
    return (grey.clip(0.0, 255.0) / np.float32(full)).astype(hr.dtype), mask


def _check(hr: NDArray[Pixel], *, count: int, kinds: Sequence[str]) -> None:
    if hr.ndim != 2 or hr.dtype not in (np.uint8, np.float32):
        raise ValueError(f"expected (H, W) uint8 or float32, got {hr.shape} {hr.dtype}")
    if min(hr.shape) < MIN_SIDE_PX:
        raise ValueError(f"expected at least {MIN_SIDE_PX} px a side, got {hr.shape}")
    if not 0 <= count <= 255:
        raise ValueError(f"expected a count of 0 to 255 defects, got {count}")
    unknown = sorted(set(kinds) - set(PLANTABLE_KINDS))
    if unknown or not kinds:
        raise ValueError(f"expected kinds of {PLANTABLE_KINDS}, got {kinds}")


def _fits(drawing: Drawing, taken: NDArray[np.uint8]) -> bool:
    """Return whether a defect has a body, and keeps its distance from earlier defects."""
    if not drawing.body.any():
        return False
    if not taken.any():
        return True
    near = ndimage.maximum_filter(taken, 2 * CLEARANCE_PX + 1) > 0
    return not bool((near & drawing.body).any())


def _as_visible(
    drawing: Drawing, before: Floats, rule: VisibilityRule | None, wanted: float | None
) -> Drawing | None:
    """Return the defect, weakened to the wanted detectability; None if it is too faint."""
    after = drawing.on(before)
    is_drawn = rule is not None and rule.drawn_share > 0
    change = np.abs(after - before)[drawing.body]
    if not is_drawn and float(change.mean()) < MIN_CHANGE_GREY:
        return None
    if rule is None:
        return drawing
    if drawing.at_strength is not None:
        strength = rule.strength(before, lambda share: drawing.weakened(share).on(before), wanted)
    else:
        strength = rule.fading(before, after, wanted)
    return None if strength is None else drawing.weakened(strength)


def _apply(
    drawing: Drawing,
    grey: Floats,
    mask: NDArray[np.uint8],
    window: tuple[slice, slice],
    rng: np.random.Generator,
    *,
    noise: NoiseModel,
) -> None:
    """Write a defect with its grain into the image, and its number into the mask."""
    after = drawing.on(grey[window])
    # What is covered has lost its grain; the defect brings as much of its own.
    variance = noise.variance(after) * (1 - (1 - drawing.covered) ** 2)
    grain = rng.standard_normal(after.shape, dtype=np.float32)
    grey[window] = after + np.sqrt(variance) * grain
    mask[window][drawing.body] = int(mask.max()) + 1


def _draw_window(
    shape: tuple[int, ...], rng: np.random.Generator, *, half_px: int
) -> tuple[slice, slice]:
    """Return a window around a random place; near a border it is moved inside the image."""
    slices = []
    for side in shape:
        centre = int(rng.integers(BORDER_PX, side - BORDER_PX))
        start = min(max(centre - half_px, 0), max(side - 2 * half_px, 0))
        slices.append(slice(start, min(start + 2 * half_px, side)))
    return slices[0], slices[1]
