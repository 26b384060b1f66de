"""Further kinds of planted defect: fallen bars and edge bumps.

Only trainings of shipped models use them. The benchmark's recipes plant neither: bumps resemble
protrusions and intrusions, which must stay unseen in the benchmark.
"""

from functools import partial

import numpy as np
from scipy import ndimage

from training.data.augmentation.basic_kinds import BLANK_CONTRAST
from training.data.augmentation.drawing import Drawing
from training.data.augmentation.line_shapes import REACH_PX, Floats, Surroundings, look_around
from training.data.augmentation.outlines import EDGE_SIGMA_PX, axes, inside, roughness

BAR_LENGTH_PX = (100.0, 400.0)
BAR_WIDTH_PX = (12.0, 40.0)
BAR_LEVEL = (0.35, 1.0)
"""Contrast of a bar to the dark level, relative to that of standing lines, which lie higher."""

BAR_ROUNDING = (0.3, 1.0)
"""Radius of a bar's corners as a share of half its width."""

BAR_BEND_PX = 6.0
BAR_TAPER = 0.15
BAR_ROOM_PX = 12.0
"""Greatest bend of a bar's middle against its ends, greatest change of its width from its middle to
an end as a share, and how far its centre may lie from the middle of a window that is cut out."""

ALIGNED_SHARE = 0.5
ALIGNED_SPREAD_RAD = 0.12
"""Share of the bars that lie along the image's axes, and standard deviation of their angle."""

HIDDEN_SHARE = 0.5
"""Share of the bars that lie behind the bright lines, seen in the spaces only."""

PILE_SHARE = 0.25
MAX_PILE = 3
"""Share of the drawings with several bars, and the greatest number of bars in one drawing."""

BLANK_RIM = 0.4
BLANK_RIM_PX = 3.0
"""Rim of a bar on a film without lines, in units of its contrast, and its decay."""

BUMP_HEIGHT_PX = (1.5, 8.0)
BUMP_LENGTH_PX = (8.0, 60.0)
BUMP_REACH_PX = 12.0
BUMP_SHARE = 1.3
"""A bump moves what lies near its edge: up to this much farther than its height, and to this many
times the way to the middle of the line, or space."""

BUMP_MARGIN_PX = 3.0
"""Least of a line, or space, that a bump leaves of what it grows into, to its middle."""

REDRAWN_STEP = 0.06
"""Change of grey, relative to the step between the levels, from which a pixel is fully redrawn."""


def fallen_bar(grey: Floats, rng: np.random.Generator) -> Drawing | None:
    """Draw one or more bright bars that lie on or between the pattern's lines."""
    around = look_around(grey)
    if around is None:
        around = _blank_surroundings(grey, rng)
    weight, covered = np.zeros_like(grey), np.zeros_like(grey)
    count = int(rng.integers(2, MAX_PILE + 1)) if rng.random() < PILE_SHARE else 1
    height, width = grey.shape
    places = [_place(side, rng) for side in (height, width)]
    low = float(around.profile[0])
    for _ in range(count):
        length_px = _log_uniform(BAR_LENGTH_PX, rng)
        distance = _bar(grey.shape, rng, y_px=places[0], x_px=places[1], length_px=length_px)
        # One pixel beyond its outline, so that the flank of its rim is drawn too.
        part = inside(distance + 1.0, EDGE_SIGMA_PX)
        if rng.random() < HIDDEN_SHARE:
            part = part * inside(-around.distance_px, EDGE_SIGMA_PX)
        level = low + rng.uniform(*BAR_LEVEL) * (around.draw(distance) - low)
        covered = (1 - part) * covered + part * level
        weight = 1 - (1 - part) * (1 - weight)
        places = [place + rng.uniform(-0.3, 0.3) * length_px for place in places]
    return Drawing(
        grey=(covered / np.maximum(weight, 1e-6)).astype(np.float32),
        weight=weight.astype(np.float32),
        shade=np.ones_like(grey),
        body=weight > 0.5,
    )


def edge_bump(grey: Floats, rng: np.random.Generator) -> Drawing | None:
    """Shift part of an edge outwards or inwards; None if the window has no suitable edge."""
    around = look_around(grey)
    if around is None:
        return None
    old = around.distance_px
    third = [slice(side // 3, side - side // 3) for side in grey.shape]
    rows, columns = np.nonzero(np.abs(old[third[0], third[1]]) < 0.75)
    if rows.size == 0:
        return None
    pick = int(rng.integers(rows.size))
    y, x = int(rows[pick]) + third[0].start, int(columns[pick]) + third[1].start
    near = old[y - 3 : y + 4, x - 3 : x + 4].astype(float)
    slope_y, slope_x = (float(slope.mean()) for slope in np.gradient(near))
    sign = 1 if rng.integers(2) else -1
    line_px, space_px = (
        _depth(old, x=x, y=y, slope_x=way * slope_x, slope_y=way * slope_y) for way in (1, -1)
    )
    height_px = min(
        _log_uniform(BUMP_HEIGHT_PX, rng), (space_px if sign > 0 else line_px) - BUMP_MARGIN_PX
    )
    if height_px < BUMP_HEIGHT_PX[0]:
        return None
    across, along = axes(
        grey.shape, x_px=float(x), y_px=float(y), angle_rad=float(np.arctan2(slope_y, slope_x))
    )
    half_px = 0.5 * _log_uniform(BUMP_LENGTH_PX, rng)
    # From a dome to a low, long swelling with flat top.
    power = rng.uniform(2.0, 4.0)
    shift = np.exp(-np.log(2.0) * np.abs(along / half_px) ** power).astype(np.float32)
    # Next to nothing is left at the other edge of the line, or space.
    reach_px = np.minimum(
        height_px + BUMP_REACH_PX, BUMP_SHARE * np.where(across > 0, line_px, space_px)
    ).astype(np.float32)
    shift = shift * np.exp(-((across / reach_px) ** 4))
    shift = sign * (height_px + roughness(grey.shape, rng)) * shift
    return _shifted(around, shift.astype(np.float32), 1.0)


def _shifted(around: Surroundings, shift_px: Floats, strength: float) -> Drawing:
    """Draw lines whose edges are shifted outwards by a field, in px, times the strength."""
    old = around.draw(around.distance_px)
    moved = around.distance_px + np.float32(strength) * shift_px
    new = around.draw(moved.astype(np.float32))
    change = np.abs(new - old)
    step = float(np.ptp(around.profile))
    weight = ndimage.gaussian_filter((change / (REDRAWN_STEP * step)).clip(0.0, 1.0), 1.0)
    return Drawing(
        grey=new,
        weight=weight.astype(np.float32),
        shade=np.ones_like(new),
        body=change > 0.25 * max(float(change.max()), 1e-3),
        at_strength=partial(_shifted, around, shift_px),
    )


def _depth(distance: Floats, *, x: int, y: int, slope_x: float, slope_y: float) -> float:
    """Return the distance from an edge to the middle of the line or space in a direction, in px."""
    length = max(float(np.hypot(slope_x, slope_y)), 1e-6)
    steps = np.arange(REACH_PX)
    columns = np.rint(x + steps * slope_x / length).astype(int).clip(0, distance.shape[1] - 1)
    rows = np.rint(y + steps * slope_y / length).astype(int).clip(0, distance.shape[0] - 1)
    values = distance[rows, columns]
    # The first steps may still lie on the other side of the edge.
    inside = np.sign(values[3]) * values[3:]
    beyond = np.flatnonzero(inside <= 0)
    return float(inside[: beyond[0] if beyond.size else None].max(initial=0.0))


def _bar(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    y_px: float,
    x_px: float,
    length_px: float,
) -> Floats:
    """Return the distance to the outline of a rough, bent and tapered bar, positive inside."""
    half_px = 0.5 * min(_log_uniform(BAR_WIDTH_PX, rng), 0.5 * length_px)
    angle = rng.uniform(0, np.pi)
    if rng.random() < ALIGNED_SHARE:
        angle = 0.5 * np.pi * int(rng.integers(2)) + rng.normal(0, ALIGNED_SPREAD_RAD)
    across, along = axes(shape, x_px=x_px, y_px=y_px, angle_rad=angle)
    place = along / (0.5 * length_px)
    across = across + rng.uniform(-BAR_BEND_PX, BAR_BEND_PX) * np.minimum(place**2, 1.5)
    half = half_px * (1 + rng.uniform(-BAR_TAPER, BAR_TAPER) * np.clip(place, -1, 1))
    corner_px = rng.uniform(*BAR_ROUNDING) * half_px * (1 - BAR_TAPER)
    beyond = np.abs(across) - half + corner_px, np.abs(along) - 0.5 * length_px + corner_px
    outside = np.hypot(*(np.maximum(side, 0.0) for side in beyond))
    distance = corner_px - outside - np.minimum(np.maximum(*beyond), 0.0)
    return (distance + 0.7 * roughness(shape, rng)).astype(np.float32)


def _blank_surroundings(grey: Floats, rng: np.random.Generator) -> Surroundings:
    """Return surroundings for a bar on a film without lines: one level and a profile with a rim."""
    median = float(np.median(grey))
    contrast = BLANK_CONTRAST * median * (1 if rng.random() < 0.7 else -0.5)
    steps = np.arange(-REACH_PX, REACH_PX + 1)
    rim = BLANK_RIM * abs(contrast) * np.exp(-np.abs(steps - 1) / BLANK_RIM_PX)
    profile = median + contrast * (steps > 0) + rim * (steps > 0)
    return Surroundings(
        distance_px=np.full_like(grey, -REACH_PX), profile=profile.astype(np.float32)
    )


def _place(side_px: int, rng: np.random.Generator) -> float:
    """Draw a coordinate of a bar's centre, near the window's middle if the window has room."""
    room_px = max(0.5 * (side_px - BAR_LENGTH_PX[1]), 0.0)
    if room_px < BAR_ROOM_PX:
        return rng.uniform(0.1, 0.9) * side_px
    return 0.5 * side_px + rng.uniform(-room_px, room_px)


def _log_uniform(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))
