"""Style of a picture against the aligned HR picture: sign of the contrast, and tone.

A network that was trained on several looks may answer in the wrong one: dark where HR is bright, or
in another tone. Unpaired losses do not notice, and neither does a fit of gain and offset.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.evaluation.folders.benchmark import Picture

LOW_PASS_SIGMA_PX = 4.0
"""Gaussian blur of both pictures, HR px: sharpness and grain are not style."""

STEP_PX = 2
"""Step between the blurred pixels that are compared; those in between say nothing new."""

MIN_CONTRAST_GREY = 3.0
"""Deviation of the blurred HR picture below which there is no contrast whose sign could flip."""

MAX_TONE_GREY = 10.0
"""Largest distance of tones that is the same style."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """Difference of style.

    Attributes:
        correlation: Pearson's r of the blurred pictures; None where HR has no contrast.
        tone_grey: Wasserstein distance W1 of the greys of the blurred pictures, in grey levels.
    """

    correlation: float | None
    tone_grey: float

    @property
    def is_inverted(self) -> bool:
        """Whether bright and dark are swapped."""
        return self.correlation is not None and self.correlation < 0

    @property
    def is_other_tone(self) -> bool:
        """Whether the tone is another one."""
        return self.tone_grey > MAX_TONE_GREY

    @property
    def is_flipped(self) -> bool:
        """Whether the picture has another style than HR."""
        return self.is_inverted or self.is_other_tone


def compare_style(picture: Picture, hr: Picture) -> Style:
    """Compare the style of a picture with that of HR.

    Args:
        picture: (H, W) uint8.
        hr: The same shape, of the same place.
    """
    if picture.shape != hr.shape:
        raise ValueError(f"two pictures of one size needed, got {picture.shape} and {hr.shape}")
    first, second = _blurred(picture), _blurred(hr)
    correlation = None
    if second.std() >= MIN_CONTRAST_GREY:
        # A picture without any contrast has lost its sign, but did not swap it.
        correlation = float(np.corrcoef(first, second)[0, 1]) if first.std() > 0 else 0.0
    # W1 of two samples of one size is the mean distance of their sorted values.
    tone = float(np.abs(np.sort(first) - np.sort(second)).mean())
    return Style(correlation=correlation, tone_grey=tone)


def _blurred(picture: Picture) -> NDArray[np.float64]:
    smooth = ndimage.gaussian_filter(picture.astype(np.float32), LOW_PASS_SIGMA_PX)
    return smooth[::STEP_PX, ::STEP_PX].astype(np.float64).ravel()
