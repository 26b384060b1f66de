"""How well a coarse scan can show a change of the fine image: its detectability index.

Planting uses it (`training.augmentation.planting`): a defect that drowns in the noise of the fast
scan must not be planted, since it teaches the generator to see defects in noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.degradation_config import DegradationConfig

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class CoarseScan:
    """A degradation at the middle of its ranges, as far as it decides what can be seen.

    Lag, jitter, charging and errors of lines are left out: they move a change or add a little to
    it, where spot, pixels, tone and noise decide.

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
        coarse_before, coarse_after = (self._scan(image) for image in (before, after))
        config = self.degradation
        variance = _middle(config.noise_var_base) + _middle(config.noise_var_slope) * (
            np.maximum(0.5 * (coarse_before + coarse_after), 0.0)
        )
        change = coarse_after - coarse_before
        return float(np.sqrt((change**2 / np.maximum(variance, 1e-6)).sum()))

    def _scan(self, image: Floats) -> Floats:
        config, scale = self.degradation, self.scale
        spot = ndimage.gaussian_filter(image, _middle(config.spot_sigma_px), mode="nearest")
        height, width = (side // scale for side in spot.shape)
        blocks = spot[: height * scale, : width * scale].reshape(height, scale, width, scale)
        share = np.clip(blocks.mean(axis=(1, 3)) / 255.0, 0.0, 1.0)
        tone = 255.0 * _middle(config.gain) * share ** _middle(config.gamma)
        return tone + _middle(config.offset_grey)


def _middle(bounds: tuple[float, float]) -> float:
    return 0.5 * (bounds[0] + bounds[1])
