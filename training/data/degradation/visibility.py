"""Detectability d' of a change to the HR image in the fast, coarse scan.

`data.augmentation` uses it for planted structure. A defect that is invisible in the noise of the
fast scan must not be planted, because it would teach the generator to see defects in noise. Planted
structure must also include faint defects: a change is weakened to a drawn d'.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.config.degradation import DegradationConfig

Floats = NDArray[np.floating]

TOLERANCE = 0.02
MAX_STEPS = 6
"""Relative tolerance of d' and greatest number of steps in the search for a strength. Two or three
steps are enough, as d' is about linear in the strength."""


@dataclass(frozen=True, kw_only=True)
class CoarseScan:
    """Fast scan with a degradation at the middle of its ranges, for computing d'.

    It includes spot, pixels, tone and noise, which determine d'. Lag, jitter, charging and line
    errors have little influence and are ignored.

    Attributes:
        degradation: Ranges, as given or estimated.
        scale: HR pixels per LR pixel.
    """

    degradation: DegradationConfig
    scale: int

    def detectability(self, before: Floats, after: Floats) -> float:
        """Return d', the signal-to-noise ratio of an observer who knows what to look for.

        d'^2 is the sum of change^2 / variance over LR pixels, change and noise being those of the
        coarse scan; the noise is white. At a threshold of d'/2 such an observer of one place errs
        in 2.3 % at d' = 4, in 0.003 % at d' = 8; a tile has 57,600 places.

        Args:
            before: (H, W) HR grey levels without the change and without noise of its own.
            after: The same with it.

        Source: Barrett and Myers 2004, *Foundations of Image Science*, section 13.2.8 (the
        prewhitening matched filter).
        """
        return self.index(self.gather(before), self.gather(after))

    def gather(self, image: Floats) -> Floats:
        """Return the blurred image averaged to LR pixels, (H / scale, W / scale), without tone."""
        scale = self.scale
        spot = ndimage.gaussian_filter(
            image, _middle(self.degradation.spot_sigma_px), mode="nearest"
        )
        height, width = (side // scale for side in spot.shape)
        blocks = spot[: height * scale, : width * scale].reshape(height, scale, width, scale)
        return blocks.mean(axis=(1, 3))

    def index(self, before: Floats, after: Floats) -> float:
        """Return d' of a change between two results of `gather`."""
        config = self.degradation
        coarse_before, coarse_after = (self._tone(image) for image in (before, after))
        variance = _middle(config.noise_var_base) + _middle(config.noise_var_slope) * (
            np.maximum(0.5 * (coarse_before + coarse_after), 0.0)
        )
        change = coarse_after - coarse_before
        return float(np.sqrt((change**2 / np.maximum(variance, 1e-6)).sum()))

    def _tone(self, gathered: Floats) -> Floats:
        config = self.degradation
        share = np.clip(gathered / 255.0, 0.0, 1.0)
        tone = 255.0 * _middle(config.gain) * share ** _middle(config.gamma)
        return tone + _middle(config.offset_grey)


@dataclass(frozen=True, kw_only=True)
class VisibilityRule:
    """Required visibility of added structure in the coarse scan.

    Attributes:
        scan: Scan that the image will have.
        least: d' below which nothing is added.
        most: The greatest d' that is drawn, at least `least`.
        drawn_share: Share of the additions that get a d', drawn log-uniformly from `least` to
            `most`, and are weakened to it. Nothing is made stronger.
    """

    scan: CoarseScan
    least: float
    most: float = 80.0
    drawn_share: float = 0.0

    def draw(self, rng: np.random.Generator) -> float | None:
        """Return a drawn d' for an addition; None means that it keeps its full strength."""
        if self.drawn_share == 0 or rng.random() >= self.drawn_share:
            return None
        return float(np.exp(rng.uniform(np.log(max(self.least, 1.0)), np.log(self.most))))

    def fading(self, before: Floats, after: Floats, wanted: float | None) -> float | None:
        """Return the share of a change that has the wanted d'.

        Args:
            before: (H, W) HR grey levels.
            after: The same with the whole change.
            wanted: d' that `draw` returned.

        Returns:
            A factor on `after - before`, at most 1; None where the whole change has less than the
            least d'.
        """
        start, end = self.scan.gather(before), self.scan.gather(after)
        return self._strength(
            lambda share: self.scan.index(start, (1 - share) * start + share * end), wanted
        )

    def strength(
        self, before: Floats, draw: Callable[[float], Floats], wanted: float | None
    ) -> float | None:
        """Return the strength, at most 1, at which something is drawn with the wanted d'.

        Args:
            before: (H, W) HR grey levels.
            draw: Function from a strength to the image with the addition.
            wanted: d' that `draw` returned.

        Returns:
            The strength; None where even full strength has less than the least d'.
        """
        start = self.scan.gather(before)
        return self._strength(
            lambda share: self.scan.index(start, self.scan.gather(draw(share))), wanted
        )

    def _strength(self, index: Callable[[float], float], wanted: float | None) -> float | None:
        reached = index(1.0)
        if reached < self.least:
            return None
        strength = 1.0
        if wanted is None or reached <= wanted:
            return strength
        for _ in range(MAX_STEPS):
            strength = min(strength * wanted / max(reached, 1e-6), 1.0)
            reached = index(strength)
            if abs(reached - wanted) <= TOLERANCE * wanted:
                break
        return strength


def _middle(bounds: tuple[float, float]) -> float:
    return 0.5 * (bounds[0] + bounds[1])
