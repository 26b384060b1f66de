"""Description of how a planted defect changes the image, and of its strength."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.data.augmentation.outlines import Floats


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Effect of a planted defect on the part of the image around it.

    At a `share` of 1: new = (1 - weight) * shade * old + weight * grey.

    Attributes, each (h, w) but the last two:
        grey: Grey of the defect, without noise.
        weight: Opacity of the defect, 0 to 1.
        shade: Factor on the old image around and behind the defect.
        body: Pixels of the defect in the mask.
        share: Share of the change that is applied, 0 to 1.
        at_strength: Function that draws the same defect at a strength from 0 to 1, for kinds whose
            strength is their size; None for kinds that become fainter by a smaller `share`.
    """

    grey: Floats
    weight: Floats
    shade: Floats
    body: NDArray[np.bool_]
    share: float = 1.0
    at_strength: "Callable[[float], Drawing] | None" = None

    def on(self, before: Floats) -> Floats:
        """Return the window with the defect, still without the defect's grain."""
        kept = (1 - self.weight) * self.shade
        after = np.asarray(kept * before + self.weight * self.grey, dtype=np.float32)
        if self.share == 1:
            return after
        return np.asarray(before + np.float32(self.share) * (after - before), dtype=np.float32)

    def weakened(self, strength: float) -> "Drawing":
        """Return the defect at a strength from 0 to 1."""
        if strength == 1:
            return self
        if self.at_strength is not None:
            return self.at_strength(strength)
        return replace(self, share=self.share * strength)

    @property
    def covered(self) -> Floats:
        """Share of the old image that is covered and so has lost its grain, 0 to 1."""
        return np.float32(self.share) * self.weight
