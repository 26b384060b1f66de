"""Ranges of the HR-to-LR degradation: the `[degradation]` section of a recipe.

A file of its own because `training.data.estimation` writes what `training.config.recipe` reads.
"""

from typing import Annotated

from pydantic import AfterValidator, Field

from training.config.section import Section, Share, Weight


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"a range is [low, high], got {list(bounds)}")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
NonNegativeRange = Annotated[tuple[Weight, Weight], AfterValidator(_ordered)]
ShareRange = Annotated[tuple[Share, Share], AfterValidator(_ordered)]


MARGIN_PX = 4
"""LR pixels around a crop that the degradation sees and that are then cut away, so that the crop's
border is degraded from real neighbours: the spot reaches 2 LR px, the lag below 8 but faintly."""


def crop_side_px(crop_px: int, scale: int) -> int:
    """Return the side in HR pixels of what is cut out for a crop, with its margin.

    Args:
        crop_px: Side of the crop in LR pixels.
        scale: s.
    """
    return (crop_px + 2 * MARGIN_PX) * scale


class DegradationConfig(Section):
    """Ranges from which each crop's HR-to-LR degradation is drawn, uniformly and independently."""

    spot_sigma_px: NonNegativeRange = Field(
        default=(0.0, 2.0), description="Gaussian beam spot, HR px, before the area mean"
    )
    lag_decay: ShareRange = Field(
        default=(0.0, 0.15), description="share of the pixel to the left that lingers"
    )
    lag_centred: bool = Field(
        default=False, description="take the lag's mean delay out, as a calibrated tool does"
    )
    line_jitter_px: NonNegativeRange = Field(
        default=(0.0, 0.0), description="sigma of each line's own shift along x, LR px"
    )
    gain: NonNegativeRange = Field(default=(1.0, 1.0), description="tone: lr = gain * hr^gamma + o")
    offset_grey: Range = Field(default=(0.0, 0.0), description="tone: o, grey levels")
    gamma: NonNegativeRange = Field(default=(1.0, 1.0), description="tone: exponent on [0, 1]")
    charging_strength: NonNegativeRange = Field(
        default=(0.0, 0.0), description="depth of the dark tail behind bright areas, share"
    )
    charging_length_px: NonNegativeRange = Field(
        default=(8.0, 8.0), description="decay length of that tail along x, LR px"
    )
    line_gain_sigma: ShareRange = Field(
        default=(0.0, 0.0), description="relative sigma of each line's own gain"
    )
    drift_sigma: ShareRange = Field(
        default=(0.0, 0.0), description="relative sigma of the slow gain drift from line to line"
    )
    noise_var_base: NonNegativeRange = Field(
        default=(8.6, 8.6), description="a of noise variance a + b * grey, grey levels squared"
    )
    noise_var_slope: NonNegativeRange = Field(
        default=(0.31, 0.31), description="b of noise variance a + b * grey, grey levels"
    )
