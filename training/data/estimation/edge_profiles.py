"""Shape of the edges in a set of images, and the distance between two sets' edges.

The edges show blur and lag even if the scenes differ. Short profiles across strong edges are
normalised to mean 0 and deviation 1, which removes contrast and tone. Rising and falling edges form
separate groups, the falling ones reversed: a lag affects the two differently, a blur does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

Floats = NDArray[np.float32]

HALF_TAPS = 5
SMOOTHING_ALONG_PX = 1.5
"""Blur along the edge, against noise."""

MIN_SLOPE_GREY = 6.0
"""Least slope of an edge, grey per pixel: three times what noise of inspection scans makes."""

SLOPE_SHARE = 0.35
"""Least slope as a share of the image's steep ones, so that each image gives its main edges."""

MAX_TILT = 0.5
"""Greatest slope along an edge relative to that across; excludes edges near a diagonal."""

MAX_PROFILES = 400
MIN_PROFILES = 60
NUM_QUANTILES = 12
KEPT_SHARE = 0.6
"""Share of the real images, those with the best matches, in a distance. The others may show scenes
that the degraded set lacks. The number of real images is the same in every trial."""


@dataclass(frozen=True, kw_only=True)
class EdgeProfiles:
    """Edges of one image along one axis.

    Attributes:
        quantiles: (2, taps, quantiles) float64: of bright-going and of dark-going edges, the
            distribution of the profile's value at each tap.
    """

    quantiles: NDArray[np.float64]


def edge_profiles(image: Floats, *, along_x: bool) -> EdgeProfiles | None:
    """Collect an image's edge profiles along x or y; None if it has too few strong edges.

    Args:
        image: (h, w) float32 grey.
        along_x: Whether the profiles run along x, across steep changes along x.
    """
    pixels = image if along_x else image.T
    smooth = ndimage.gaussian_filter1d(pixels, SMOOTHING_ALONG_PX, axis=0)
    slope = np.zeros_like(smooth)
    slope[:, 1:-1] = (smooth[:, 2:] - smooth[:, :-2]) / 2
    steep = np.abs(slope)
    # The tilt, from a broader mean than the profile: noise must not turn edges.
    tilt_along, tilt_across = np.gradient(ndimage.gaussian_filter(pixels, SMOOTHING_ALONG_PX))
    is_edge = steep >= ndimage.maximum_filter1d(steep, 5, axis=1)
    is_edge &= np.abs(tilt_along) < MAX_TILT * np.abs(tilt_across)
    is_edge &= steep > max(MIN_SLOPE_GREY, SLOPE_SHARE * float(np.quantile(steep, 0.99)))
    margin = HALF_TAPS + 2
    is_edge[:, :margin] = is_edge[:, -margin:] = False
    is_edge[:3] = is_edge[-3:] = False
    rows, columns = np.nonzero(is_edge)
    if rows.size < MIN_PROFILES:
        return None
    step = max(1, rows.size // MAX_PROFILES)
    rows, columns = rows[::step], columns[::step]
    taps = np.arange(-HALF_TAPS, HALF_TAPS + 1)
    profiles = smooth[rows[:, None], columns[:, None] + taps]
    profiles = profiles - profiles.mean(axis=1, keepdims=True)
    profiles = profiles / np.maximum(profiles.std(axis=1, keepdims=True), 1e-6)
    rises = slope[rows, columns] > 0
    groups = (profiles[rises], profiles[~rises][:, ::-1])
    if min(len(group) for group in groups) < MIN_PROFILES // 3:
        return None
    levels = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
    quantiles = np.array([np.quantile(group, levels, axis=0).T for group in groups])
    return EdgeProfiles(quantiles=quantiles)


def collect_profiles(images: Sequence[Floats]) -> tuple[list[EdgeProfiles], list[EdgeProfiles]]:
    """Return the profiles along x and those along y of all images that have them."""
    found = [[edge_profiles(image, along_x=axis) for image in images] for axis in (True, False)]
    along_x, along_y = ([one for one in side if one is not None] for side in found)
    return along_x, along_y


def edge_distance(degraded: Sequence[EdgeProfiles], real: Sequence[EdgeProfiles]) -> float:
    """Return the distance between two sets of edge profiles; 0 if one of them is empty.

    The Wasserstein-1 distance of the value at each tap, averaged over the taps, between images that
    are matched one to one so that the sum is least. The matching lets lines meet lines and holes
    meet holes, so that another mix of scenes on either side counts little.
    """
    if not degraded or not real:
        return 0.0
    a = np.array([one.quantiles for one in degraded])
    b = np.array([one.quantiles for one in real])
    distances = np.abs(a[:, None] - b[None]).mean(axis=(2, 3, 4))
    rows, columns = match_images(distances, kept_share=KEPT_SHARE)
    return float(distances[rows, columns].mean())


def match_images(
    distances: NDArray[np.floating], *, kept_share: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Match images one to one so that the sum of distances is least, and keep the best of them.

    Args:
        distances: (n, m), of each image of one set to each of the other.
        kept_share: Share of the m images of the other set that is kept, at least one.

    Returns:
        Rows and columns of the kept pairs, the nearest first.

    Source: Kuhn, *The Hungarian method for the assignment problem* (1955).
    """
    rows, columns = optimize.linear_sum_assignment(distances)
    order = np.argsort(distances[rows, columns], kind="stable")
    kept = order[: max(1, int(np.ceil(kept_share * distances.shape[1])))]
    return rows[kept], columns[kept]
