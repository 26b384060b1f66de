"""Defects planted in HR images, for pseudo-pairs: known structure that the network must keep.

An image is planted, then degraded (`degradation`): so training sees an LR defect and its HR truth.
Four kinds only. Every other kind (missing holes, scratches, protrusions, voids, ...) stays unseen
by training, because the evaluation asks whether unseen kinds survive.

A defect is made of the image's own material. The surroundings are parted into bright lines and dark
spaces; their mean grey against the signed distance to the edge is the profile that this tool drew
here: levels, bright rims, sharpness. A bridge or break changes the lines' shape and is drawn with
that profile, then gets the image's own noise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.augmentation.line_shapes import Floats, find_strip, look_around
from training.augmentation.outlines import CORNER_PX, axes, blob, inside, roughness, smooth_maximum
from training.noise import NoiseModel, estimate_noise
from training.visibility import CoarseScan

Pixel = TypeVar("Pixel", np.uint8, np.float32)

MIN_SIDE_PX = 96
WINDOW_PX = 72
"""Half the side of the window in which a defect is drawn, and whose lines and levels it takes."""

BORDER_PX = 12
CLEARANCE_PX = 6
"""Least distance of a defect's centre from the border, and of its body from the other defects."""

ATTEMPTS = 12
"""Places tried for one defect before it is left out; from the sixth on, kinds that need no line."""

MIN_CHANGE_GREY = 2.5
"""Mean change over its body below which a defect would not be one."""

BRIDGE_THICKNESS_PX = (6.0, 28.0)
BREAK_GAP_PX = (8.0, 40.0)
PARTICLE_DIAMETER_PX = (8.0, 56.0)
STAIN_DIAMETER_PX = (16.0, 60.0)
FLARE = 0.35
"""A bar is that much wider where it meets its lines, and a gap where it leaves the line."""

OVERLAP_PX = 7.0
"""A bar or gap reaches this far beyond the edges that it joins or cuts, under their bright rims."""

PARTICLE_EXCESS = (0.35, 1.2)
"""A particle's grey above the local median, in units of the local contrast."""

RIM_EXCESS = (0.3, 0.9)
"""Grey of a particle's rim above its middle, in the same units."""

BLANK_CONTRAST = 0.5
"""Local contrast is at least this share of the local median, so that particles show on a film."""

SHADOW_DEPTH = (0.1, 0.4)
SHADOW_LENGTH_PX = (4.0, 14.0)
STAIN_AMPLITUDE = (0.07, 0.25)
"""Share of the grey by which a stain is brighter or darker."""

STAIN_SOFTNESS_PX = (1.5, 5.0)
EDGE_SIGMA_PX = 1.3
"""Blur of a drawn outline: the spot of a review scan."""


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """What a defect does to its window: new = (1 - weight) * shade * old + weight * grey.

    Attributes, each (h, w):
        grey: Grey of the defect, without noise.
        weight: 0 to 1.
        shade: Factor on what is seen around and through it.
        body: Pixels that belong to the defect's truth.
    """

    grey: Floats
    weight: Floats
    shade: Floats
    body: NDArray[np.bool_]


def plant_defects(
    hr: NDArray[Pixel],
    rng: np.random.Generator,
    *,
    count: int,
    kinds: Sequence[str] | None = None,
    noise: NoiseModel | None = None,
    scan: CoarseScan | None = None,
    min_detectability: float = 0.0,
) -> tuple[NDArray[Pixel], NDArray[np.uint8]]:
    """Plant defects of random kinds at random places.

    Args:
        hr: (H, W) uint8 grey, or float32 in [0, 1]; at least 96 px a side.
        rng: Source of kinds, places, shapes and noise.
        count: How many to plant, 0 to 255. Fewer are planted where no free place is found; a bridge
            or break that finds no fitting lines becomes a particle or stain.
        kinds: Kinds to draw from, `PLANTED_KINDS` by default.
        noise: Noise of the image; by default estimated from it, so pass that of the whole set
            where it is known.
        scan: How the image will be scanned; None asks nothing of it.
        min_detectability: Least d' in that scan of what is planted; see `training.visibility`.

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
        for attempt in range(ATTEMPTS):
            if attempt == ATTEMPTS // 2 and kind in {"bridge", "break"}:
                kind = ("particle", "stain")[int(rng.integers(2))]
            window = _draw_window(grey.shape, rng)
            drawing = _DRAW[kind](grey[window].copy(), rng)
            if drawing is None or not _fits(drawing, mask[window]):
                continue
            after = _drawn(drawing, grey[window])
            if not _shows(drawing, grey[window], after):
                continue
            if scan and scan.detectability(grey[window], after) < min_detectability:
                continue
            _apply(drawing, after, grey, mask, window, rng, noise=noise)
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
    unknown = sorted(set(kinds) - set(PLANTED_KINDS))
    if unknown or not kinds:
        raise ValueError(f"expected kinds of {PLANTED_KINDS}, got {kinds}")


def _fits(drawing: _Drawing, taken: NDArray[np.uint8]) -> bool:
    """Say whether a defect has a body, clear of those that are there."""
    if not drawing.body.any():
        return False
    if not taken.any():
        return True
    near = ndimage.maximum_filter(taken, 2 * CLEARANCE_PX + 1) > 0
    return not bool((near & drawing.body).any())


def _drawn(drawing: _Drawing, before: Floats) -> Floats:
    """Return the window with the defect, before it gets grain of its own."""
    kept = (1 - drawing.weight) * drawing.shade
    return np.asarray(kept * before + drawing.weight * drawing.grey, dtype=np.float32)


def _shows(drawing: _Drawing, before: Floats, after: Floats) -> bool:
    return float(np.abs(after - before)[drawing.body].mean()) >= MIN_CHANGE_GREY


def _apply(
    drawing: _Drawing,
    after: Floats,
    grey: Floats,
    mask: NDArray[np.uint8],
    window: tuple[slice, slice],
    rng: np.random.Generator,
    *,
    noise: NoiseModel,
) -> None:
    """Write a defect into image and mask."""
    # What is covered has lost its grain; the defect brings as much of its own.
    variance = noise.variance(after) * (1 - (1 - drawing.weight) ** 2)
    grain = rng.standard_normal(after.shape, dtype=np.float32)
    grey[window] = after + np.sqrt(variance) * grain
    mask[window][drawing.body] = int(mask.max()) + 1


def _draw_window(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
    """Return a window around a random place, moved inside the image where that is near a border."""
    slices = []
    for side in shape:
        centre = int(rng.integers(BORDER_PX, side - BORDER_PX))
        start = min(max(centre - WINDOW_PX, 0), max(side - 2 * WINDOW_PX, 0))
        slices.append(slice(start, min(start + 2 * WINDOW_PX, side)))
    return slices[0], slices[1]


def _bridge(grey: Floats, rng: np.random.Generator) -> _Drawing | None:
    """Draw a short bar of the bright material across a dark space, with the rims of its edges."""
    return _redraw_lines(grey, rng, thickness_px=rng.uniform(*BRIDGE_THICKNESS_PX), joins=True)


def _break(grey: Floats, rng: np.random.Generator) -> _Drawing | None:
    """Cut a bright line through: a patch of the dark level, with rims at the line's new ends."""
    return _redraw_lines(grey, rng, thickness_px=rng.uniform(*BREAK_GAP_PX), joins=False)


def _redraw_lines(
    grey: Floats, rng: np.random.Generator, *, thickness_px: float, joins: bool
) -> _Drawing | None:
    around = look_around(grey)
    if around is None:
        return None
    strip = find_strip(around, rng, bright=not joins, length_px=thickness_px / 2 + 12)
    if strip is None:
        return None
    across, along = axes(grey.shape, x_px=strip.x_px, y_px=strip.y_px, angle_rad=strip.angle_rad)
    half = strip.width_px / 2
    flare = 1 + FLARE * np.minimum((across / half) ** 2, 1.5)
    bar = np.minimum(half + OVERLAP_PX - np.abs(across), thickness_px / 2 * flare - np.abs(along))
    bar = bar + roughness(grey.shape, rng)
    old = around.distance_px
    new = smooth_maximum(old, bar) if joins else -smooth_maximum(-old, bar)
    weight = ((np.abs(new - old) - 0.75) / 2).clip(0.0, 1.0)
    # Only at the bar: the rounding of corners must not redraw the whole pattern faintly.
    weight = weight * (bar > -2 * CORNER_PX)
    weight = ndimage.gaussian_filter(weight, 1.0).astype(np.float32)
    return _Drawing(
        grey=around.draw(new),
        weight=weight,
        shade=np.ones_like(grey),
        body=(weight > 0.5) & ((new > 0) != (old > 0)),
    )


def _particle(grey: Floats, rng: np.random.Generator) -> _Drawing:
    """Draw an irregular, rounded, bright grain with a brighter rim and a shadow around it."""
    distance, theta, radius_px = blob(
        grey.shape, rng, diameter_px=PARTICLE_DIAMETER_PX, margin_px=BORDER_PX
    )
    median, contrast = _local_levels(grey, distance)
    fill = median + rng.uniform(*PARTICLE_EXCESS) * contrast
    rim = rng.uniform(*RIM_EXCESS) * contrast
    rim_px = 1.5 + 0.12 * radius_px
    depth = np.maximum(distance, 0.0)
    level = fill + rim * np.exp(-depth / rim_px)
    # Light falls from one side a little, as the detector stands on one.
    lit = 1 + 0.1 * np.cos(theta - rng.uniform(0, 2 * np.pi)) * np.exp(-depth / (0.5 * radius_px))
    length_px = rng.uniform(*SHADOW_LENGTH_PX)
    fall = np.exp(np.minimum(distance, 0.0) / length_px)
    fall = fall * np.clip((4 * length_px + distance) / length_px, 0.0, 1.0)
    side = 0.6 + 0.4 * np.cos(theta - rng.uniform(0, 2 * np.pi))
    return _Drawing(
        grey=(level * lit).astype(np.float32),
        weight=inside(distance, EDGE_SIGMA_PX),
        shade=(1 - rng.uniform(*SHADOW_DEPTH) * side * fall).astype(np.float32),
        body=distance > 0,
    )


def _stain(grey: Floats, rng: np.random.Generator) -> _Drawing:
    """Draw a smooth patch through which everything shows, a little brighter or darker."""
    distance, _, radius_px = blob(
        grey.shape, rng, diameter_px=STAIN_DIAMETER_PX, margin_px=BORDER_PX
    )
    softness_px = min(rng.uniform(*STAIN_SOFTNESS_PX), 0.35 * radius_px)
    amplitude = rng.uniform(*STAIN_AMPLITUDE) * (1 if rng.integers(2) else -1)
    return _Drawing(
        grey=np.zeros_like(grey),
        weight=np.zeros_like(grey),
        shade=1 + np.float32(amplitude) * inside(distance, softness_px),
        body=distance > 0,
    )


def _local_levels(grey: Floats, distance: Floats) -> tuple[float, float]:
    """Return the median grey near an outline, and the contrast between the levels there."""
    near = grey[distance > -20]
    low, median, high = np.quantile(ndimage.gaussian_filter(near, 1.0), (0.1, 0.5, 0.9))
    return float(median), float(max(high - low, BLANK_CONTRAST * median))


_DRAW: Mapping[str, Callable[[Floats, np.random.Generator], _Drawing | None]] = MappingProxyType(
    {"bridge": _bridge, "break": _break, "particle": _particle, "stain": _stain}
)

PLANTED_KINDS = tuple(_DRAW)
"""The kinds that training may plant; the evaluation's other kinds must not be among them."""
