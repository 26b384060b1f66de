"""The four default kinds of planted defect: bridge, break, particle, stain.

Each function draws a defect into a window of the image. For a bridge or a break, the window is
segmented into bright lines and dark spaces. The mean grey at each signed distance from an edge is
the edge profile: levels, bright rims and sharpness of this tool. The defect changes the shape of
the lines, which are then drawn again with that profile.
"""

import numpy as np
from scipy import ndimage

from training.data.augmentation.drawing import Drawing
from training.data.augmentation.line_shapes import Floats, find_strip, look_around
from training.data.augmentation.outlines import (
    CORNER_PX,
    EDGE_SIGMA_PX,
    axes,
    blob,
    inside,
    roughness,
    smooth_maximum,
)

BORDER_PX = 12
"""Least distance of a defect's centre from the border."""

BRIDGE_THICKNESS_PX = (6.0, 28.0)
BREAK_GAP_PX = (8.0, 40.0)
PARTICLE_DIAMETER_PX = (8.0, 56.0)
STAIN_DIAMETER_PX = (16.0, 60.0)
FLARE = 0.35
"""Relative widening of a bar where it meets its lines, and of a gap where it leaves the line."""

OVERLAP_PX = 7.0
"""Distance by which a bar or gap extends beyond the edges, so that it covers their bright rims."""

PARTICLE_EXCESS = (0.35, 1.2)
"""Range of a particle's grey above the local median, in units of the local contrast."""

RIM_EXCESS = (0.3, 0.9)
"""Grey of a particle's rim above its middle, in the same units."""

BLANK_CONTRAST = 0.5
"""Least local contrast as a share of the local median, so that particles are visible on a film."""

SHADOW_DEPTH = (0.1, 0.4)
SHADOW_LENGTH_PX = (4.0, 14.0)
STAIN_AMPLITUDE = (0.07, 0.25)
"""Range of a stain's relative change of the grey, up or down."""

STAIN_SOFTNESS_PX = (1.5, 5.0)


def bridge(grey: Floats, rng: np.random.Generator) -> Drawing | None:
    """Draw a short bright bar across a dark space; None if the window has no suitable space."""
    return _redraw_lines(grey, rng, thickness_px=rng.uniform(*BRIDGE_THICKNESS_PX), joins=True)


def broken_line(grey: Floats, rng: np.random.Generator) -> Drawing | None:
    """Interrupt a bright line by a dark gap; None if the window has no suitable line."""
    return _redraw_lines(grey, rng, thickness_px=rng.uniform(*BREAK_GAP_PX), joins=False)


def _redraw_lines(
    grey: Floats, rng: np.random.Generator, *, thickness_px: float, joins: bool
) -> Drawing | None:
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
    return Drawing(
        grey=around.draw(new),
        weight=weight,
        shade=np.ones_like(grey),
        body=(weight > 0.5) & ((new > 0) != (old > 0)),
    )


def particle(grey: Floats, rng: np.random.Generator) -> Drawing:
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
    return Drawing(
        grey=(level * lit).astype(np.float32),
        weight=inside(distance, EDGE_SIGMA_PX),
        shade=(1 - rng.uniform(*SHADOW_DEPTH) * side * fall).astype(np.float32),
        body=distance > 0,
    )


def stain(grey: Floats, rng: np.random.Generator) -> Drawing:
    """Draw a smooth, transparent patch that makes the image a little brighter or darker."""
    distance, _, radius_px = blob(
        grey.shape, rng, diameter_px=STAIN_DIAMETER_PX, margin_px=BORDER_PX
    )
    softness_px = min(rng.uniform(*STAIN_SOFTNESS_PX), 0.35 * radius_px)
    amplitude = rng.uniform(*STAIN_AMPLITUDE) * (1 if rng.integers(2) else -1)
    return Drawing(
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
