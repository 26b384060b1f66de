"""Lines and spaces in a window of an image: places of their edges, and the edges' grey profile.

The planted kinds change the lines' shape and draw them again with this profile.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

Floats = NDArray[np.float32]

SMOOTHING_PX = 2.0
"""Blur before the segmentation into bright and dark, against the grain of a review scan."""

REACH_PX = 40
"""Greatest distance from an edge in the profile; farther away the grey is constant."""

MIN_STEP_SHARE = 0.15
MIN_STEP_GREY = 6.0
"""Least difference of bright and dark in a window with lines: share of the bright level, and grey
levels."""

MIN_CLASS_SHARE = 0.08
NUM_DIRECTIONS = 16
MAX_WIDTH_PX = 60
MIN_WIDTH_PX = 6
MIN_ASPECT = 0.7
"""Least length of a strip to either side, relative to its width. It excludes holes: filling a hole
would be another kind of defect."""

MAX_WIDTH_RATIO = 1.35
NUM_PLACES = 6
"""Places tried in one window."""

MIN_DEPTH_PX = 5
"""Least depth of the neighbours of a strip, which excludes rims as neighbours."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Segmentation of an image window into bright and dark, with the profile of its edges.

    Attributes:
        distance_px: (h, w) float32, signed distance to the nearest edge, positive where bright.
        profile: (2 * REACH_PX + 1,) float32, mean grey at the distances -REACH_PX to REACH_PX.
    """

    distance_px: Floats
    profile: Floats

    def draw(self, distance_px: Floats) -> Floats:
        """Return the grey of lines whose edges lie at distance 0, (h, w) float32, without noise."""
        steps = np.arange(-REACH_PX, REACH_PX + 1)
        return np.interp(distance_px, steps, self.profile).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A place on the middle of a line or space.

    Attributes:
        x_px: Column, in the window.
        y_px: Row.
        angle_rad: Direction across, from x towards y.
        width_px: Width from edge to edge.
    """

    x_px: float
    y_px: float
    angle_rad: float
    width_px: float


def look_around(grey: Floats) -> Surroundings | None:
    """Segment a window into bright lines and dark spaces.

    Args:
        grey: (h, w) float32, 0..255.

    Returns:
        Segmentation; None if the window has no two distinct levels.
    """
    smooth = ndimage.gaussian_filter(grey, SMOOTHING_PX, mode="nearest")
    if float(np.ptp(smooth)) < MIN_STEP_GREY:
        return None
    is_bright = smooth > threshold_otsu(smooth)
    share = float(is_bright.mean())
    high, low = float(smooth[is_bright].mean()), float(smooth[~is_bright].mean())
    if not MIN_CLASS_SHARE <= share <= 1 - MIN_CLASS_SHARE:
        return None
    if high - low < max(MIN_STEP_GREY, MIN_STEP_SHARE * high):
        return None
    inside = ndimage.distance_transform_edt(is_bright)
    outside = ndimage.distance_transform_edt(~is_bright)
    # Half a pixel, because the edge lies between the pixels of either side.
    distance = np.where(is_bright, np.asarray(inside) - 0.5, 0.5 - np.asarray(outside))
    step = np.rint(distance).astype(int).clip(-REACH_PX, REACH_PX) + REACH_PX
    count = np.bincount(step.ravel(), minlength=2 * REACH_PX + 1)
    total = np.bincount(step.ravel(), weights=grey.ravel(), minlength=2 * REACH_PX + 1)
    found = count >= 8
    steps = np.arange(count.size)
    profile = np.interp(steps, steps[found], total[found] / count[found])
    return Surroundings(distance_px=distance.astype(np.float32), profile=profile.astype(np.float32))


def find_strip(
    around: Surroundings, rng: np.random.Generator, *, bright: bool, length_px: float
) -> Strip | None:
    """Find a place on the middle of a bright line, or of a dark space, near the window's middle.

    Args:
        around: The window.
        rng: Draws among the places.
        bright: Whether to look for a line, not a space.
        length_px: The strip must run on this far to either side.

    Returns:
        A place from 6 to 60 px wide, or None.
    """
    depth = around.distance_px if bright else -around.distance_px
    height, width = depth.shape
    is_ridge = (depth >= MIN_WIDTH_PX / 2) & (depth >= ndimage.maximum_filter(depth, 5) - 0.5)
    is_ridge &= depth <= MAX_WIDTH_PX / 2
    third = np.zeros_like(is_ridge)
    third[height // 3 : height - height // 3, width // 3 : width - width // 3] = True
    rows, columns = np.nonzero(is_ridge & third)
    if rows.size == 0:
        return None
    angles = np.pi * np.arange(NUM_DIRECTIONS) / NUM_DIRECTIONS
    for pick in rng.choice(rows.size, size=min(NUM_PLACES, rows.size), replace=False):
        strip = _cross(depth, float(columns[pick]), float(rows[pick]), angles, length_px=length_px)
        if strip is not None:
            return strip
    return None


def _cross(
    depth: Floats, x: float, y: float, angles: NDArray[np.floating], *, length_px: float
) -> Strip | None:
    """Measure the strip at a place across its narrowest direction; None if it is not a strip."""
    runs = _runs(depth, x, y, np.concatenate([angles, angles + np.pi])).reshape(2, -1)
    best = int(np.argmin(runs.sum(axis=0)))
    ahead, behind = float(runs[0, best]), float(runs[1, best])
    width_px = ahead + behind
    if not MIN_WIDTH_PX <= width_px <= MAX_WIDTH_PX:
        return None
    angle = float(angles[best])
    sides = _runs(depth, x, y, angle + np.array([-0.5, 0.5]) * np.pi)
    if float(sides.min()) < max(length_px, MIN_ASPECT * width_px):
        return None
    # A line keeps its width along its length; the web between two holes does not.
    for way in (-1, 1):
        far_x, far_y = x - way * length_px * np.sin(angle), y + way * length_px * np.cos(angle)
        far_px = float(_runs(depth, far_x, far_y, angle + np.array([0.0, np.pi])).sum())
        if not width_px / MAX_WIDTH_RATIO <= far_px <= width_px * MAX_WIDTH_RATIO:
            return None
    for run, turn in ((ahead, 0.0), (behind, np.pi)):
        if _depth_beyond(depth, x, y, angle + turn, run) < MIN_DEPTH_PX:
            return None
    shift = (ahead - behind) / 2
    return Strip(
        x_px=x + shift * np.cos(angle),
        y_px=y + shift * np.sin(angle),
        angle_rad=angle,
        width_px=width_px,
    )


def _rays(
    depth: Floats, x: float, y: float, angles: NDArray[np.floating], steps: NDArray[np.int_]
) -> Floats:
    """Return the depth along rays, (angles, steps); NaN outside the window."""
    columns = np.rint(x + np.cos(angles)[:, None] * steps).astype(int)
    rows = np.rint(y + np.sin(angles)[:, None] * steps).astype(int)
    inside = (rows >= 0) & (rows < depth.shape[0]) & (columns >= 0) & (columns < depth.shape[1])
    values = np.full(inside.shape, np.nan, dtype=np.float32)
    values[inside] = depth[rows[inside], columns[inside]]
    return values


def _runs(depth: Floats, x: float, y: float, angles: NDArray[np.floating]) -> Floats:
    """Return the length of each ray within the strip; infinite if the ray leaves the window."""
    has_left = _rays(depth, x, y, angles, np.arange(1, 2 * MAX_WIDTH_PX)) <= 0
    runs = np.where(has_left.any(axis=1), has_left.argmax(axis=1) + 0.5, np.inf)
    return runs.astype(np.float32)


def _depth_beyond(depth: Floats, x: float, y: float, angle: float, run: float) -> float:
    """Return the greatest depth that a ray reaches shortly beyond the edge."""
    steps = np.arange(int(run), int(run) + 3 * MIN_DEPTH_PX)
    values = _rays(depth, x, y, np.array([angle]), steps)
    return float(-np.nanmin(values, initial=0.0))
