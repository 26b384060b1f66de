"""Statistics that compare images of different scenes: grey levels, steps, shape of edges."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from training.data.estimation.edge_profiles import EdgeProfiles, collect_profiles, edge_distance
from training.data.estimation.tone_matching import NEUTRAL_TONE, grey_quantiles, tone_distance

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ImageStatistics:
    """A set of images with their grey quantiles and edge profiles.

    Attributes:
        images: (h, w) float32 grey each.
        quantiles: Grey quantiles, a row an image.
        along_x: Profiles of the edges along x, of the images that have such edges.
        along_y: The same along y.
    """

    images: Sequence[Floats]
    quantiles: NDArray[np.float64]
    along_x: list[EdgeProfiles]
    along_y: list[EdgeProfiles]

    @classmethod
    def of(cls, images: Sequence[Floats]) -> Self:
        """Measure a set of images."""
        along_x, along_y = collect_profiles(images)
        return cls(
            images=images, quantiles=grey_quantiles(images), along_x=along_x, along_y=along_y
        )

    def edge_distances(self, degraded: Sequence[Floats]) -> tuple[float, float]:
        """Return the distances of degraded images' edges from this set's, along x and along y."""
        along_x, along_y = collect_profiles(degraded)
        return edge_distance(along_x, self.along_x), edge_distance(along_y, self.along_y)


def compare(
    lr: ImageStatistics, *, before: Sequence[Floats], after: Sequence[Floats]
) -> dict[str, dict[str, float]]:
    """Return statistics of the LR images and of HR images before and after a degradation.

    Returns:
        By name of a statistic: its values for `lr`, `before` and `after`. Distances are from the LR
        images, hence 0 there.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, images in (("lr", lr.images), ("before", before), ("after", after)):
        quantiles = grey_quantiles(images)
        steps = {
            axis: np.concatenate([np.abs(np.diff(image, axis=number)).ravel() for image in images])
            for number, axis in ((1, "x"), (0, "y"))
        }
        distance_x, distance_y = lr.edge_distances(images)
        found = {
            **{f"grey_{level}": np.quantile(quantiles, level / 100) for level in (10, 50, 90)},
            **{f"step_{axis}_50": np.median(values) for axis, values in steps.items()},
            **{f"step_{axis}_95": np.quantile(values, 0.95) for axis, values in steps.items()},
            "tone_distance_grey": tone_distance(quantiles, lr.quantiles, NEUTRAL_TONE),
            "edge_distance_x": distance_x,
            "edge_distance_y": distance_y,
        }
        for key, value in found.items():
            rows.setdefault(key, {})[name] = round(float(value), 4)
    return rows
