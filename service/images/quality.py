"""The model's quality flags: combines those of an image's tiles into one header for a client."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import FLAGS, NOT_JUDGED
from service.ground.errors import EngineFailed

NON_FINITE, SATURATED, CONSISTENCY, CONSISTENCY_WORST, RESIDUAL, DOMAIN = range(len(FLAGS))


class Quality(NamedTuple):
    """The flags of one image; see `bundle_format.bundle.FLAGS`.

    Attributes:
        non_finite: Share of LR pixels where the answer is non-finite (NaN or infinite).
        saturated: Share of LR pixels where the answer was clipped to black or white.
        consistency: Mean local correlation of the answer, seen coarsely, with the input.
        consistency_worst: Minimum of these correlations over the image.
        residual: Score of the most suspicious spot that the answer does not explain, over the
            bundle's limit; None where the bundle has none.
        domain_distance: Distance of the image's farthest tile from the training tiles, over the
            bundle's limit; None where the bundle has none.
    """

    non_finite: float
    saturated: float
    consistency: float
    consistency_worst: float
    residual: float | None = None
    domain_distance: float | None = None

    def check(self) -> None:
        """Refuse an answer with non-finite values, which is meaningless.

        Raises:
            EngineFailed: The answer holds such values.
        """
        if self.non_finite > 0:
            raise EngineFailed(
                "the model returned non-finite values (NaN or infinite) at "
                f"{self.non_finite:.2%} of the pixels of a tile; its answer is withheld"
            )

    def by_name(self) -> dict[str, float]:
        """Return the judged flags by the names that they have in `X-Quality`."""
        fields = self._asdict().items()
        return {name.replace("_", "-"): value for name, value in fields if value is not None}

    def header(self) -> str:
        """The answer's `X-Quality`: an RFC 9651 dictionary of decimals."""
        text = (
            f"non-finite={self.non_finite:.4f}, saturated={self.saturated:.4f}, "
            f"consistency={self.consistency:.3f}, consistency-worst={self.consistency_worst:.3f}"
        )
        for name, value in (
            ("residual", self.residual),
            ("domain-distance", self.domain_distance),
        ):
            if value is not None:
                text += f", {name}={value:.3f}"
        return text


def of_tiles(flags: Sequence[npt.NDArray[np.float32]]) -> Quality:
    """Combine the flags of an image's tiles.

    Args:
        flags: (K,) float32 of each tile, at least one.
    """
    # Pure Python is much faster for so short arrays: NumPy takes an eighth of a raw tile's time on
    # the loop.
    rows = [tile.tolist() for tile in flags]
    if len(rows) == 1:
        non_finite, saturated, mean, worst, residual, domain_distance = rows[0]
        return Quality(
            non_finite, saturated, mean, worst, _judged(residual), _judged(domain_distance)
        )
    columns = list(zip(*rows, strict=True))
    return Quality(
        non_finite=max(columns[NON_FINITE]),
        saturated=fmean(columns[SATURATED]),
        consistency=fmean(columns[CONSISTENCY]),
        consistency_worst=min(columns[CONSISTENCY_WORST]),
        residual=_judged(max(columns[RESIDUAL])),
        domain_distance=_judged(max(columns[DOMAIN])),
    )


def _judged(value: float) -> float | None:
    return None if value == NOT_JUDGED else value
