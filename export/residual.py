"""Structure of a tile that its answer does not explain, and its distance from the training.

A right answer, seen as the fast scan would see it, differs from the tile by noise alone. Where a
structure was lost or invented the difference is compact and too large. The same comparison measures
the tile's noise and sharpness. Together with its grey levels they give its distance from the
training tiles.

All tensors lie on the LR grid, and the code uses only pooling and arithmetic, which every runtime
supports.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

WHITE = 255.0
PRIOR_VARIANCE = (2.0 / WHITE) ** 2
"""Structure below two grey levels does not decide the fit: a blank film is taken as it is."""

SURROUND_BLOCKS = 15
"""30 LR px: drift, charging and the tone curve change more slowly than that."""

BLOCK_WINDOWS = (3, 5)
PIXEL_WINDOW = 3
"""Windows of 3, 6 and 10 LR px: a matched filter for spots of about 1.5 to 15 px."""

MEAN_PER_SIGMA = (2.0 / torch.pi) ** 0.5
MIN_SPREAD = 0.25
"""Least spread, as a share of the noise model's: an answer that repeats the tile's own noise leaves
next to nothing, and the largest of that means nothing."""

GREY_VARIANCE = 1.0 / WHITE**2
MIN_GAIN = 0.1


@dataclass(frozen=True)
class Explanation:
    """A tile compared with the tile that its answer predicts.

    Attributes:
        residual: (N, 1, H, W), tile minus prediction, in standard deviations of the noise model.
        gain: (N, 1, 1, 1), factor of the answer's coarse structure.
        sharpness: (N, 1, 1, 1), factor of its finest structure; less than the gain where the fast
            scan blurs, more where it is sharper than pixel means of the answer.
    """

    residual: torch.Tensor
    gain: torch.Tensor
    sharpness: torch.Tensor


def explain(
    lr: torch.Tensor, seen: torch.Tensor, *, noise_base: float, noise_slope: float
) -> Explanation:
    """Fit the answer's area means to the tile by least squares: offset, gain and sharpness.

    Args:
        lr: (N, 1, H, W) float32 in [0, 1].
        seen: Area means of the answer, of the same shape.
        noise_base: Noise variance at black, grey levels (0..255) squared.
        noise_slope: Growth of that variance with grey.
    """
    smooth = _mean_of(seen, 3)
    level, level_lr = _tile_mean(smooth), _tile_mean(lr)
    coarse, target = smooth - level, lr - level_lr
    fine = seen - _tile_mean(seen) - coarse
    # Two unknowns in closed form; the prior draws both to 1.
    cc = _tile_mean(coarse * coarse) + PRIOR_VARIANCE
    ff = _tile_mean(fine * fine) + PRIOR_VARIANCE
    cf = _tile_mean(coarse * fine)
    ct = _tile_mean(coarse * target) + PRIOR_VARIANCE
    ft = _tile_mean(fine * target) + PRIOR_VARIANCE
    determinant = cc * ff - cf * cf
    gain = (ct * ff - ft * cf) / determinant
    sharpness = (ft * cc - ct * cf) / determinant
    expected = level_lr + gain * coarse + sharpness * fine
    variance = noise_base / WHITE**2 + (noise_slope / WHITE) * expected.clamp(0.0, 1.0)
    return Explanation((lr - expected) / variance.sqrt(), gain, sharpness)


def residual_score(residual: torch.Tensor) -> torch.Tensor:
    """Return the largest compact excess of each tile, (N,), in standard deviations.

    The residual is averaged over windows of three sizes. For the larger ones, the mean of the
    surroundings is subtracted first. Each size is measured against its own spread over the tile
    (mean of absolute values), which makes the score independent of how noisy the tile is and of the
    model's everyday errors.

    Args:
        residual: (N, 1, H, W), in deviations of the noise model.
    """
    blocks = functional.avg_pool2d(residual, 2)
    blocks = blocks - _mean_of(blocks, SURROUND_BLOCKS)
    scores = [_excess(residual, PIXEL_WINDOW, side_px=PIXEL_WINDOW)]
    scores += [_excess(blocks, window, side_px=2 * window) for window in BLOCK_WINDOWS]
    return torch.stack(scores, dim=1).amax(1)


def domain_features(lr: torch.Tensor, explanation: Explanation) -> torch.Tensor:
    """Return the features that give a tile's domain distance: (N, K), as `bundle.DOMAIN_FEATURES`.

    They are mean grey, skewness, sharpness, and logarithms: of the grey levels' deviation, of the
    noise relative to the noise model, and of the structure of 2 to 4, 4 to 8 and over 8 px.

    Args:
        lr: (N, 1, H, W) float32 in [0, 1], sides at least 8.
        explanation: Explanation of these tiles.
    """
    mean = _tile_mean(lr)
    centred = lr - mean
    squared = centred * centred
    variance = _tile_mean(squared)
    skewness = _tile_mean(squared * centred) / (variance + 4 * GREY_VARIANCE) ** 1.5
    energies = []
    for _ in range(3):
        centred = functional.avg_pool2d(centred, 2)
        energies.append(_tile_mean(centred * centred))
    bands = (energies[0] - energies[1], energies[1] - energies[2], energies[2])
    noise = explanation.residual.abs().mean((1, 2, 3), keepdim=True) / MEAN_PER_SIGMA
    columns = (
        mean,
        0.5 * _log(variance, 4.0),
        skewness,
        torch.log(noise + 0.05),
        explanation.sharpness / explanation.gain.clamp(min=MIN_GAIN),
        *(_log(band, 1.0) for band in bands),
    )
    return torch.cat(columns, dim=1).flatten(1)


def domain_distances(
    features: torch.Tensor, *, means: torch.Tensor, precisions: torch.Tensor
) -> torch.Tensor:
    """Return each tile's Mahalanobis distance from each domain, divided by the root of K, (N, D).

    Args:
        features: (N, K).
        means: (D, K), of each domain's tiles.
        precisions: (D, K, K), inverse of their covariance.
    """
    away = features[:, None] - means
    # No matrix product: autocast and TF32 would take one in fewer bits.
    squared = (away[..., None] * precisions * away[:, :, None]).sum((2, 3))
    return (squared.clamp(min=0.0) / means.shape[1]).sqrt()


def _excess(values: torch.Tensor, window: int, *, side_px: int) -> torch.Tensor:
    # Zeros beyond the border: a window that reaches over it has less to show, never more.
    means = functional.avg_pool2d(values, window, stride=1, padding=window // 2).abs()
    spread = means.mean((1, 2, 3)) / MEAN_PER_SIGMA
    return means.amax((1, 2, 3)) / spread.clamp(min=MIN_SPREAD / side_px)


def _mean_of(values: torch.Tensor, window: int) -> torch.Tensor:
    return functional.avg_pool2d(
        values, window, stride=1, padding=window // 2, count_include_pad=False
    )


def _tile_mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean((1, 2, 3), keepdim=True)


def _log(variance: torch.Tensor, floor_grey2: float) -> torch.Tensor:
    return torch.log(variance.clamp(min=0.0) / GREY_VARIANCE + floor_grey2)
