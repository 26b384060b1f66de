"""Registration of one LR picture and one HR picture, and the rules that refuse a pair.

A wrong pair costs more than a missing one: a pixel loss on it teaches blur. So a pair whose shift
is not certain is refused, with the reason. Every rule is about the pair alone.
"""

from dataclasses import dataclass

import numpy as np

from training.registration.fields import AXES, Axis, Fields, Shift
from training.registration.filters import (
    Floats,
    Grey,
    blurred_band,
    enlarged,
    hr_noise_variance,
    lr_noise_variance,
    sharp_band,
)
from training.registration.refinement import Refinement, refine
from training.registration.shift_search import FoundShift, search
from training.registration.window_scores import WindowScores, score_windows

MAX_SHIFT_PX = 24
"""Default greatest shift, HR px: the error of a stage. Smaller than the period of most patterns, so
that the next period is not even tried."""

MIN_CORRELATION = 0.6
"""Least correlation after the noise's attenuation is taken out. Simulated and real pairs reach 0.84
to 0.99, simulated tiles of other layouts at most 0.38, and other places of one design up to 0.99:
only a comparison of several files (`matching`) recognises the latter."""

MIN_SIGNAL_SHARE = 0.05
"""Least share of LR's variance that is taken as signal, so that a correlation is not divided by the
difference of two equal estimates."""

MAX_SCALE_ERROR = 0.005
MAX_RESIDUAL_PX = 1.0


class RegistrationError(ValueError):
    """A pair that must not be used for training, with the reason."""


@dataclass(frozen=True)
class Registration:
    """Position of HR against LR.

    Attributes:
        fields: Sizes of the pair.
        shift: (dy, dx) in HR px, see `fields`.
        standard_error_px: Standard errors of the shift; infinite along an unknown axis.
        correlation: Correlation of the structure, without the attenuation by noise, -1 to 1.
        raw_correlation: The same with the noise.
        unknown_axis: Axis along which the pictures do not determine the shift.
        residual_px: Root mean square of the local shifts around `shift`, HR px.
        scale_error: Relative excesses of HR's px per LR px over the scale, along y and x.
        rotation_deg: Rotation of HR against LR, from x towards y.
    """

    fields: Fields
    shift: Shift
    standard_error_px: Shift
    correlation: float
    raw_correlation: float
    unknown_axis: Axis | None
    residual_px: float
    scale_error: Shift
    rotation_deg: float

    @property
    def whole_shift(self) -> tuple[int, int]:
        """Part of the shift that a crop of HR applies."""
        return round(self.shift[0]), round(self.shift[1])

    @property
    def fraction(self) -> Shift:
        """Part of the shift that remains after the crop, within 0.5 HR px: `SourcePair.dy, dx`."""
        whole = self.whole_shift
        return self.shift[0] - whole[0], self.shift[1] - whole[1]


def register(
    lr: Grey,
    hr: Grey,
    *,
    scale: int,
    max_shift_px: int = MAX_SHIFT_PX,
    accept_inverted: bool = False,
) -> Registration:
    """Find the shift between two pictures of one place.

    Args:
        lr: (h, w) uint8.
        hr: (H, W) uint8, about `scale` times the size; both fields have the same centre.
        scale: HR px per LR px.
        max_shift_px: Greatest shift along either axis, HR px.
        accept_inverted: Whether HR may show the structure with inverted contrast, as another
            detector does.

    Raises:
        RegistrationError: The pair must not be used; the message is the reason.
    """
    fields = Fields((lr.shape[0], lr.shape[1]), (hr.shape[0], hr.shape[1]), scale)
    _check_structure(lr, "LR")
    _check_structure(hr, "HR")
    u = enlarged(lr, scale)
    lr_band, hr_band = sharp_band(u, scale), blurred_band(hr, scale)
    try:
        scores = score_windows(lr_band, hr_band, fields, max_shift_px=max_shift_px)
    except ValueError as error:
        raise RegistrationError(str(error)) from error
    scores, found, correlations = _signed(scores, lr, hr, u, hr_band, fields)
    correlation, raw = correlations
    _check_correlation(correlation, accept_inverted=accept_inverted)
    _check_search(found, max_shift_px)
    refinement = refine(lr_band, hr_band, fields, found.shift, unknown_axis=found.unknown_axis)
    _check_refinement(refinement, scale)
    return Registration(
        fields=fields,
        shift=refinement.shift,
        standard_error_px=refinement.standard_error_px,
        correlation=correlation,
        raw_correlation=raw,
        unknown_axis=found.unknown_axis,
        residual_px=refinement.residual_px,
        scale_error=refinement.scale_error,
        rotation_deg=refinement.rotation_deg,
    )


def _signed(
    scores: WindowScores, lr: Grey, hr: Grey, u: Floats, hr_band: Floats, fields: Fields
) -> tuple[WindowScores, FoundShift, tuple[float, float]]:
    """Choose the sign of the contrast, search the shift, and correlate there."""
    inverted = scores.of_opposite_contrast()
    # A symmetric grating is its own inverse half a period on: the usual contrast unless the other
    # explains the pair clearly better.
    if inverted.preference(inverted.best_scores, scores.best_scores).is_clear():
        scores = inverted
    found = search(scores)
    correlations = _correlations(
        blurred_band(u, fields.scale), hr_band, fields, found.shift,
        lr_noise_variance(lr, fields.scale), hr_noise_variance(hr, fields.scale),
    )  # fmt: skip
    return scores, found, correlations


def _correlations(
    u: Floats,
    h: Floats,
    fields: Fields,
    shift: tuple[int, int],
    lr_noise: float,
    hr_noise: float,
) -> tuple[float, float]:
    """Correlate the overlap: without the attenuation by noise (Spearman 1904), and with it."""
    lr_part, hr_part = fields.crops(shift)
    first = u[tuple(slice(fields.scale * s.start, fields.scale * s.stop) for s in lr_part)]
    second = h[hr_part]
    first = first - first.mean()
    second = second - second.mean()
    covariance = float(np.mean(first * second, dtype=np.float64))
    lr_variance = float(np.mean(first**2, dtype=np.float64))
    hr_variance = float(np.mean(second**2, dtype=np.float64))
    lr_signal = max(lr_variance - lr_noise, MIN_SIGNAL_SHARE * lr_variance)
    hr_signal = max(hr_variance - hr_noise, MIN_SIGNAL_SHARE * hr_variance)
    corrected = covariance / np.sqrt(lr_signal * hr_signal)
    return float(np.clip(corrected, -1, 1)), float(covariance / np.sqrt(lr_variance * hr_variance))


def _check_structure(picture: Grey, name: str) -> None:
    if picture.min() == picture.max():
        raise RegistrationError(f"{name} has one grey, {picture.flat[0]}: expected structure")


def _check_correlation(correlation: float, *, accept_inverted: bool) -> None:
    if correlation <= -MIN_CORRELATION and not accept_inverted:
        raise RegistrationError(
            f"contrast is inverted: correlation {correlation:.2f}, expected {MIN_CORRELATION} or "
            "more; a network that trains on this and on ordinary pairs learns neither. Use one "
            "detector and one landing energy, or, if all pairs are inverted, accept them"
        )
    if abs(correlation) < MIN_CORRELATION:
        raise RegistrationError(
            f"correlation of the structure is {correlation:.2f} at the best shift, expected at "
            f"least {MIN_CORRELATION}: the pictures show different places, or differ in scale"
        )


def _check_search(found: FoundShift, max_shift_px: int) -> None:
    if not found.has_structure:
        raise RegistrationError(
            "shift is undetermined along both axes: too little structure above the noise"
        )
    if found.others:
        dy, dx = found.shift
        others = " or ".join(f"(dy {y:+d}, dx {x:+d})" for y, x in found.others[:3])
        raise RegistrationError(
            f"ambiguous by a pitch: (dy {dy:+d}, dx {dx:+d}) HR px and {others} explain the pair "
            "equally well; a smaller greatest shift excludes the others, if the stage is that exact"
        )
    if found.is_at_limit:
        raise RegistrationError(
            f"shift (dy {found.shift[0]:+d}, dx {found.shift[1]:+d}) HR px reaches the greatest "
            f"shift of {max_shift_px} px: allow more"
        )


def _check_refinement(refinement: Refinement, scale: int) -> None:
    errors = zip(AXES, refinement.scale_error, refinement.scale_standard_error, strict=True)
    for axis, error, standard_error in errors:
        # Along straight lines the scale is not determined: what is found there is noise.
        if abs(error) > MAX_SCALE_ERROR and standard_error < MAX_SCALE_ERROR / 5:
            raise RegistrationError(
                f"scale along {axis} is {scale * (1 + error):.3f} HR px per LR px, expected "
                f"{scale} within {MAX_SCALE_ERROR:.1%}: resample a picture by its pixel size, or "
                "scan it again if the stage or the beam drifts"
            )
    if refinement.residual_px > MAX_RESIDUAL_PX:
        raise RegistrationError(
            f"local shifts differ by {refinement.residual_px:.2f} HR px (root mean square), "
            f"expected at most {MAX_RESIDUAL_PX:g}; HR is rotated by "
            f"{refinement.rotation_deg:+.2f} degrees"
        )
