"""Blind estimation of the HR-to-LR degradation from unpaired images, without aligned pairs.

About 20 LR and 20 HR images of different places are enough. Noise is measured on flat parts of both
sets (`noise`). Tone follows from matched grey quantiles (`tone_matching`). Beam spot and lag are
those of the degraded HR images whose edges resemble the LR images most (`edge_profiles`). Jitter
and gain errors of lines are measured line by line (`line_errors`). Charging and slow drift are not
estimated, because a few images cannot separate them from the scenes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config.degradation import DegradationConfig
from training.data.degradation.noise import NoiseModel, NoiseSamples, fit_noise, measure_noise
from training.data.estimation.edge_fit import NUM_TRIALS, PARSIMONY, fit_edges, scan_spots
from training.data.estimation.image_statistics import ImageStatistics, compare
from training.data.estimation.line_errors import estimate_jitter, estimate_line_gain
from training.data.estimation.tone_matching import (
    NEUTRAL_TONE,
    ToneCurve,
    fit_tone,
    grey_quantiles,
    tone_distance,
)
from training.data.estimation.trials import Trials, one_thread
from training.ground.progress import progress

Images = Sequence[NDArray[np.uint8]]

MAX_IMAGES = 24
MAX_SIDE_PX = 208
"""Greatest number of images of each set, and side of their crops in LR px; the search then takes a
minute."""

MIN_IMAGES = 2
MIN_SIDE_PX = 48
PARSIMONY_GREY = 0.1
REFERENCE_JITTER_PX = 0.2
BOOTSTRAPS = 10
ROUNDING_VARIANCE = 1 / 12

SPOT_MARGIN_PX = 0.3
LAG_MARGIN = 0.06
GAIN_MARGIN = 0.03
OFFSET_MARGIN_GREY = 2.0
MAX_GAIN_MARGIN = 0.1
MAX_OFFSET_MARGIN_GREY = 8.0
NOISE_MARGIN = 0.15
LINE_MARGIN = 0.3
"""Half widths of the ranges around the estimate; those of gain, noise and lines are relative."""


@dataclass(frozen=True, kw_only=True)
class DegradationEstimate:
    """Estimated degradation, and statistics that show how well it fits.

    Attributes:
        point: Estimate itself: every range has equal ends.
        config: Ranges around it, for training: by the margins of this module, wider in gain and
            offset where resampling the images moves the tone.
        evidence: Values by name of a statistic: on the LR images (`lr`), on HR images averaged
            to the LR grid (`before`), and on HR images with the estimated spot, lag, jitter and
            tone and with LR's noise (`after`). Distances are from the LR images, hence 0 there.
    """

    point: DegradationConfig
    config: DegradationConfig
    evidence: dict[str, dict[str, float]]


@one_thread()
def estimate_degradation(
    lr: Images, hr: Images, *, scale: int, seed: int = 0
) -> DegradationEstimate:
    """Estimate the degradation that makes HR images look like the LR images.

    Args:
        lr: (h, w) uint8 each, at least two, at least 48 px a side; sizes may differ.
        hr: (H, W) uint8 each, at least two, of other places but the same kinds of scene, at `scale`
            times the magnification; at least 48 * scale px a side.
        scale: HR pixels per LR pixel along a side.
        seed: Seed of the choice among many images, of the noise in every trial and of resampling.

    Raises:
        ValueError: Too few or too small images, or a scale below 1.

    Source: own construction. The idea of training on degraded HR images is that of Maeda, CVPR
    2020; fitting simulated to real statistics under common random numbers is the method of
    simulated moments (McFadden, Econometrica 57, 1989).
    """
    _check(lr, hr, scale=scale)
    rng = np.random.default_rng(seed)
    lr = [_cut(image, MAX_SIDE_PX, multiple=1) for image in _choose(lr, rng)]
    hr = [_cut(image, MAX_SIDE_PX * scale, multiple=scale) for image in _choose(hr, rng)]
    with progress("estimating the degradation: noise and greys"):
        lr_samples, hr_samples = measure_noise(lr), measure_noise(hr, step_px=max(1, scale // 2))
        trials = Trials(hr, scale=scale, noise=fit_noise(lr_samples), seed=int(rng.integers(2**31)))
        target = ImageStatistics.of([image.astype(np.float32) for image in lr])
        tone, _ = fit_tone(grey_quantiles(trials.coarse(0.5 * scale, 0.0)), target.quantiles)
    with progress("estimating the degradation: spot and lag", NUM_TRIALS, unit="trial") as steps:
        trials.steps = steps
        near_px = scan_spots(trials, target, tone)
        spot_px, lag = fit_edges(trials, target, tone, near_px=near_px)
    with progress("estimating the degradation: tone and lines"):
        return _finish(trials, target, lr_samples, hr_samples, (spot_px, lag), tone, rng)


def _finish(
    trials: Trials,
    target: ImageStatistics,
    lr_samples: NoiseSamples,
    hr_samples: NoiseSamples,
    edges: tuple[float, float],
    tone: ToneCurve,
    rng: np.random.Generator,
) -> DegradationEstimate:
    """Estimate tone, line errors and noise for the given spot and lag."""
    spot_px, lag = edges
    quantiles = grey_quantiles(trials.coarse(spot_px, lag))
    tone = _simplify_tone(quantiles, target, fit_tone(quantiles, target.quantiles, start=tone)[0])
    point = _point(trials, target, spot_px=spot_px, lag=lag, tone=tone)
    noise = _added_noise(
        lr_samples, fit_noise(hr_samples), tone, noise_left=trials.noise_left(spot_px, lag)
    )
    point = point.model_copy(
        update={"noise_var_base": (noise.base,) * 2, "noise_var_slope": (noise.slope,) * 2}
    )
    dark_grey, bright_share = _tone_spread(quantiles, target, tone, rng)
    after = trials.finished(trials.coarse(spot_px, lag, jitter_px=point.line_jitter_px[0]), tone)
    return DegradationEstimate(
        point=point,
        config=_widen(point, dark_grey=dark_grey, bright_share=bright_share),
        evidence=compare(target, before=trials.coarse(0.0, 0.0), after=after),
    )


def _check(lr: Images, hr: Images, *, scale: int) -> None:
    if scale < 1:
        raise ValueError(f"expected a scale of at least 1, got {scale}")
    for name, images, side_px in (("LR", lr, MIN_SIDE_PX), ("HR", hr, MIN_SIDE_PX * scale)):
        if len(images) < MIN_IMAGES:
            raise ValueError(f"expected at least {MIN_IMAGES} {name} images, got {len(images)}")
        small = sorted({image.shape for image in images if min(image.shape) < side_px})
        if small:
            raise ValueError(f"expected {name} images of {side_px} px a side, got {small}")


def _choose(images: Images, rng: np.random.Generator) -> Images:
    if len(images) <= MAX_IMAGES:
        return images
    return [images[number] for number in sorted(rng.permutation(len(images))[:MAX_IMAGES])]


def _cut(image: NDArray[np.uint8], side_px: int, *, multiple: int) -> NDArray[np.uint8]:
    """Return the middle of an image, at most `side_px` a side and a multiple of `multiple`."""
    height, width = (min(side, side_px) // multiple * multiple for side in image.shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _simplify_tone(
    quantiles: NDArray[np.float64], target: ImageStatistics, tone: ToneCurve
) -> ToneCurve:
    """Return the neutral curve if it fits about as well as the given one."""
    fitted, neutral = (
        tone_distance(quantiles, target.quantiles, curve) for curve in (tone, NEUTRAL_TONE)
    )
    return NEUTRAL_TONE if neutral <= PARSIMONY * fitted + PARSIMONY_GREY else tone


def _point(
    trials: Trials, target: ImageStatistics, *, spot_px: float, lag: float, tone: ToneCurve
) -> DegradationConfig:
    """Measure jitter and gain of the lines; return the estimate without its noise."""
    without = trials.finished(trials.coarse(spot_px, lag), tone)
    reference = trials.coarse(spot_px, lag, jitter_px=REFERENCE_JITTER_PX)
    jitter_px = estimate_jitter(
        target.images,
        without,
        trials.finished(reference, tone),
        trials.noise,
        jitter_px=REFERENCE_JITTER_PX,
    )
    line_gain = estimate_line_gain(target.images, without, trials.noise)
    return DegradationConfig(
        spot_sigma_px=(spot_px, spot_px),
        lag_decay=(lag, lag),
        lag_centred=True,
        line_jitter_px=(jitter_px, jitter_px),
        gain=(tone.gain, tone.gain),
        gamma=(tone.gamma, tone.gamma),
        offset_grey=(tone.offset_grey, tone.offset_grey),
        line_gain_sigma=(line_gain, line_gain),
    )


def _added_noise(
    lr: NoiseSamples, hr: NoiseModel, tone: ToneCurve, *, noise_left: float
) -> NoiseModel:
    """Return the noise to add: LR noise minus rounding and the HR noise left after averaging."""
    hr_grey = tone.inverse(lr.grey)
    left = hr.variance(hr_grey) * noise_left * tone.slope(hr_grey) ** 2
    added = np.maximum(lr.variance - left - ROUNDING_VARIANCE, 0.0)
    return fit_noise(NoiseSamples(grey=lr.grey, variance=added, weight=lr.weight))


def _tone_spread(
    quantiles: NDArray[np.float64],
    target: ImageStatistics,
    tone: ToneCurve,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the bootstrap deviations of dark grey (levels) and of bright grey (relative)."""
    anchors = np.quantile(quantiles, (0.1, 0.9))
    greys = []
    for _ in range(BOOTSTRAPS):
        ours, theirs = (
            side[rng.integers(len(side), size=len(side))] for side in (quantiles, target.quantiles)
        )
        greys.append(fit_tone(ours, theirs, start=tone)[0].apply(anchors))
    dark, bright = np.std(greys, axis=0)
    return float(dark), float(bright / max(float(tone.apply(anchors)[1]), 1.0))


def _widen(point: DegradationConfig, *, dark_grey: float, bright_share: float) -> DegradationConfig:
    """Return ranges around the estimate, within the bounds of each field.

    Gamma has no range: drawn independently of the gain, even a small change of gamma would move
    bright grey by more than its uncertainty.
    """
    offset = float(np.clip(dark_grey, OFFSET_MARGIN_GREY, MAX_OFFSET_MARGIN_GREY))
    gain = float(np.clip(bright_share, GAIN_MARGIN, MAX_GAIN_MARGIN))

    def around(middle: float, *, margin: float = 0.0, share: float = 0.0) -> tuple[float, float]:
        reach = margin + share * middle
        return max(middle - reach, 0.0), middle + reach

    shift = point.offset_grey[0]
    return DegradationConfig(
        spot_sigma_px=around(point.spot_sigma_px[0], margin=SPOT_MARGIN_PX),
        lag_decay=around(point.lag_decay[0], margin=LAG_MARGIN),
        lag_centred=True,
        line_jitter_px=around(point.line_jitter_px[0], share=LINE_MARGIN),
        gain=around(point.gain[0], share=gain),
        gamma=point.gamma,
        offset_grey=(shift - offset, shift + offset),
        line_gain_sigma=around(point.line_gain_sigma[0], share=LINE_MARGIN),
        noise_var_base=around(point.noise_var_base[0], share=NOISE_MARGIN),
        noise_var_slope=around(point.noise_var_slope[0], share=NOISE_MARGIN),
    )
