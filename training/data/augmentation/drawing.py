"""Effect of a planted defect on the image, and its strength."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.data.augmentation.outlines import Floats


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Effect of a defect on its window: new = (1 - weight) * shade * old + weight * grey.

    Attributes, each (h, w) but the last two:
        grey: Grey of the defect, without noise.
        weight: 0 to 1.
        shade: Factor on what is seen around and through it.
        body: Pixels that belong to the defect's truth.
        share: Share of the change that is made, 0 to 1.
        at_strength: The same defect at a strength from 0 to 1, for kinds whose size is their
            strength; None for kinds that are made fainter by their share.
    """

    grey: Floats
    weight: Floats
    shade: Floats
    body: NDArray[np.bool_]
    share: float = 1.0
    at_strength: "Callable[[float], Drawing] | None" = None

    def on(self, before: Floats) -> Floats:
        """Return the window with the defect, before it gets grain of its own."""
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
