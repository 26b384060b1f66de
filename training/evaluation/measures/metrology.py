"""Edge placement, line width and roughness on line scenes, to a fraction of an HR pixel.

Profiles across the lines are averaged over eight rows. An edge is the place where a profile crosses
the level midway between space and line. The noise-free truth gives the true edges. Each picture has
its own space and line levels, so that tone and contrast do not shift its edges. The levels are
medians over the middle thirds of the true spaces and lines, robust against defects and lost lines.

Source: threshold edges as in CD-SEM practice (Villarrubia et al. 2005, "Scanning electron
microscope analog of scatterometry", compares edge definitions).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.evaluation.folders.benchmark import Picture

ROWS_PER_PROFILE = 8
PROFILE_SIGMA_PX = 1.0
SEARCH_PX = 8.0
"""Greatest distance of a found edge from its true place; farther edges count as lost."""

MIN_LEVEL_GAP_GREY = 4.0
MIN_EDGES = 16

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class EdgeTruth:
    """The true edges of one line scene.

    Attributes:
        is_lying: Lines run along x, so that profiles are taken along y.
        rows: (E,) profile that the edge lies on.
        places_px: (E,) HR pixels along the profile, sorted within each profile.
        is_rising: (E,) from space to line.
        space: (profiles, length) True in the middle third of spaces.
        line: (profiles, length) True in the middle third of lines.
    """

    is_lying: bool
    rows: NDArray[np.int64]
    places_px: Floats
    is_rising: NDArray[np.bool_]
    space: NDArray[np.bool_]
    line: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class EdgeFigures:
    """Edge figures of one picture against the truth, in HR pixels.

    Attributes:
        shift_px: Shift of the whole picture across the lines: the median displacement of left
            and of right edges, averaged.
        placement_px: Median distance of an edge from its true place after that shift is taken off;
            a lost edge counts as `SEARCH_PX` away.
        placement_p95_px: 95 % quantile of the same.
        cd_bias_px: Mean line width less the true one.
        roughness_ratio: Deviation of edge places along a line over the true one: above 1 adds
            roughness (noise), below 1 smooths it away.
        lost_share: Share of true edges without an edge within `SEARCH_PX`.
        edges: Number of true edges.
    """

    shift_px: float
    placement_px: float
    placement_p95_px: float
    cd_bias_px: float
    roughness_ratio: float
    lost_share: float
    edges: int


def find_true_edges(noise_free: Picture) -> EdgeTruth | None:
    """Find the edges in a noise-free picture of parallel lines, upright or lying.

    Args:
        noise_free: (H, W) uint8.

    Returns:
        The edges, or None where the picture shows no lines to measure.
    """
    smooth = ndimage.gaussian_filter(noise_free.astype(np.float64), 2.0)
    slope_y, slope_x = (float(np.abs(np.diff(smooth, axis=axis)).mean()) for axis in (0, 1))
    is_lying = slope_y > slope_x
    profiles = _profiles(noise_free, is_lying=is_lying)
    # A first guess only: bright edges pull Otsu's split up, the levels below settle it.
    threshold = _otsu(profiles)
    edges = _crossings(profiles, threshold)
    for _ in range(2):
        thirds = _middle_thirds(edges, profiles.shape)
        if thirds is None:
            return None
        space, line = (float(np.median(profiles[area])) for area in thirds)
        if line - space < MIN_LEVEL_GAP_GREY:
            return None
        edges = _crossings(profiles, (space + line) / 2)
    thirds = _middle_thirds(edges, profiles.shape)
    rows, places, rising = edges
    if thirds is None or rows.size < MIN_EDGES:
        return None
    return EdgeTruth(
        is_lying=is_lying,
        rows=rows,
        places_px=places,
        is_rising=rising,
        space=thirds[0],
        line=thirds[1],
    )


def measure_edges(picture: Picture, truth: EdgeTruth) -> EdgeFigures:
    """Compare the edges of a picture with the true ones.

    Args:
        picture: (H, W) uint8, a method's picture.
        truth: Edges that `find_true_edges` found in the same scene.
    """
    profiles = _profiles(picture, is_lying=truth.is_lying)
    space, line = (float(np.median(profiles[area])) for area in (truth.space, truth.line))
    found = np.full(truth.places_px.shape, np.nan)
    # Without a step between space and line, noise alone would cross the threshold everywhere.
    if abs(line - space) >= MIN_LEVEL_GAP_GREY:
        found = _nearest(_crossings(profiles, (space + line) / 2, is_inverted=line < space), truth)
    is_found = np.isfinite(found)
    lost = 1.0 - float(is_found.mean())
    if np.count_nonzero(is_found) < MIN_EDGES:
        nan = float("nan")
        return EdgeFigures(
            shift_px=nan,
            placement_px=SEARCH_PX,
            placement_p95_px=SEARCH_PX,
            cd_bias_px=nan,
            roughness_ratio=nan,
            lost_share=lost,
            edges=truth.rows.size,
        )
    displacement = found - truth.places_px
    shift = _shift(displacement, truth.is_rising)
    residual = np.where(is_found, np.abs(displacement - shift), SEARCH_PX)
    return EdgeFigures(
        shift_px=shift,
        placement_px=float(np.median(residual)),
        placement_p95_px=float(np.quantile(residual, 0.95)),
        cd_bias_px=_width_bias(displacement, truth),
        roughness_ratio=_roughness_ratio(found, truth),
        lost_share=lost,
        edges=truth.rows.size,
    )


def _profiles(picture: Picture, *, is_lying: bool) -> Floats:
    pixels = (picture.T if is_lying else picture).astype(np.float64)
    count = pixels.shape[0] // ROWS_PER_PROFILE
    blocks = pixels[: count * ROWS_PER_PROFILE].reshape(count, ROWS_PER_PROFILE, -1)
    return ndimage.gaussian_filter1d(blocks.mean(axis=1), PROFILE_SIGMA_PX, axis=1)


def _otsu(profiles: Floats) -> float:
    counts, edges = np.histogram(profiles, bins=128)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    means = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    split = int(np.argmax(below * above * (means[0] - means[1]) ** 2))
    return float(means[0][split] + means[1][split]) / 2


def _crossings(
    profiles: Floats, threshold: float, *, is_inverted: bool = False
) -> tuple[NDArray[np.int64], Floats, NDArray[np.bool_]]:
    """Return profile, place and direction of every crossing, sorted by profile and place."""
    over = profiles - threshold
    is_line = over < 0 if is_inverted else over >= 0
    rows, columns = np.nonzero(is_line[:, 1:] != is_line[:, :-1])
    before, after = over[rows, columns], over[rows, columns + 1]
    return rows, columns + before / (before - after), is_line[rows, columns + 1]


def _middle_thirds(
    edges: tuple[NDArray[np.int64], Floats, NDArray[np.bool_]], shape: tuple[int, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Mark the middle third between neighbouring edges: (space, line), None if one is empty."""
    rows, places, rising = edges
    marks = np.zeros((2, *shape), dtype=bool)
    same = np.flatnonzero(rows[1:] == rows[:-1])
    for first in same.tolist():
        third = (places[first + 1] - places[first]) / 3
        start, stop = places[first] + third, places[first + 1] - third
        area = slice(round(start), max(round(stop), round(start) + 1))
        marks[int(rising[first]), rows[first], area] = True
    return (marks[0], marks[1]) if marks[0].any() and marks[1].any() else None


def _nearest(
    edges: tuple[NDArray[np.int64], Floats, NDArray[np.bool_]], truth: EdgeTruth
) -> Floats:
    """Return the nearest found edge of each true edge's profile and direction, or NaN."""
    found = np.full(truth.places_px.shape, np.nan)
    rows, places, rising = edges
    far = 1e6
    for direction in (False, True):
        wanted = truth.is_rising == direction
        offered = rising == direction
        # Profiles far apart on one axis: one sorted search serves them all.
        keys = rows[offered] * far + places[offered]
        goals = truth.rows[wanted] * far + truth.places_px[wanted]
        if keys.size == 0:
            continue
        right = np.clip(np.searchsorted(keys, goals), 0, keys.size - 1)
        left = np.maximum(right - 1, 0)
        nearest = np.where(
            np.abs(keys[left] - goals) < np.abs(keys[right] - goals), keys[left], keys[right]
        )
        offsets = nearest - goals
        found[wanted] = np.where(
            np.abs(offsets) <= SEARCH_PX, truth.places_px[wanted] + offsets, np.nan
        )
    return found


def _shift(displacement: Floats, is_rising: NDArray[np.bool_]) -> float:
    """Return the mean of the rising and falling edges' median shifts; growth cancels in it."""
    medians = [
        float(np.median(side))
        for direction in (True, False)
        if (side := displacement[(is_rising == direction) & np.isfinite(displacement)]).size
    ]
    return sum(medians) / len(medians)


def _width_bias(displacement: Floats, truth: EdgeTruth) -> float:
    """Return the mean width error of lines with both edges found."""
    is_line = (truth.rows[1:] == truth.rows[:-1]) & truth.is_rising[:-1] & ~truth.is_rising[1:]
    growth = (displacement[1:] - displacement[:-1])[is_line]
    growth = growth[np.isfinite(growth)]
    return float(growth.mean()) if growth.size else float("nan")


def _roughness_ratio(found: Floats, truth: EdgeTruth) -> float:
    """Return the ratio of picture to truth in the second differences of edge places along lines.

    Edges are followed by their number within the profile, over profiles with equally many edges;
    second differences cancel the rotation of the lines.
    """
    starts = np.searchsorted(truth.rows, np.arange(truth.space.shape[0] + 1))
    counts = np.diff(starts)
    sums = np.zeros(2)
    for row in range(counts.size - 2):
        if counts[row] == counts[row + 1] == counts[row + 2] > 0:
            index = starts[row : row + 3, None] + np.arange(counts[row])[None, :]
            for number, places in enumerate((found[index], truth.places_px[index])):
                second = places[0] - 2 * places[1] + places[2]
                is_jump = np.abs(truth.places_px[index[2]] - truth.places_px[index[0]]) > SEARCH_PX
                kept = second[np.isfinite(found[index]).all(axis=0) & ~is_jump]
                sums[number] += float((kept**2).sum())
    return float(np.sqrt(sums[0] / sums[1])) if sums[1] > 0 else float("nan")
