"""Comparison of an output with the HR image of its pair: small shifts, and differences of tone.

Two scans of one place never lie exactly on each other, and their brightness and contrast drift. The
rest of a shift that registration measured is put into the output (`shift_images`), up to a pixel
that it missed is looked for (`align_pairs`), and gain and offset are fitted (`fit_tone`). The HR
image is never interpolated, so that its grain stays as it is.
"""

from dataclasses import dataclass

import torch

from training.ground.keys import REACH_PX, keys
from training.losses.shapes import check_grey_batch, check_same_shape

PRIOR_GREY = 2.0 / 255.0
"""Contrast of a prior that draws a fitted gain to 1: in a flat crop, there is only noise to fit."""


@dataclass(frozen=True, kw_only=True)
class AlignedPairs:
    """Windows of outputs and of HR images that show the same places.

    The windows leave out the margin that shifts need.

    Attributes:
        sr: (N, 1, h, w) shifted outputs; in the graph.
        fitted: (N, 1, h, w) the same with gain and offset fitted to `hr`; in the graph.
        hr: (N, 1, h, w) HR images, each at the integer shift that fits its output best.
        steps: (N, 2) int64: that shift down and to the right, in pixels.
    """

    sr: torch.Tensor
    fitted: torch.Tensor
    hr: torch.Tensor
    steps: torch.Tensor


def shift_images(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Move the scene of each image down and to the right by a fraction of a pixel or more.

    The interpolation has four taps along each axis: Keys' cubic with a = -0.5. A shift of zero
    changes nothing, and a shift of whole pixels only moves them. The border is repeated.

    Args:
        images: (N, 1, H, W) float32.
        shift: (N, 2), down and to the right, in pixels.

    Returns:
        The same shape, in float32 also under autocast.

    Source: Keys 1981, "Cubic convolution interpolation for digital image processing", eq. 15.
    """
    check_grey_batch(images, "images to shift")
    if shift.shape != (len(images), 2):
        raise ValueError(
            f"a shift (dy, dx) for each of {len(images)} images needed, got {tuple(shift.shape)}"
        )
    height, width = images.shape[-2:]
    if not bool(shift.any()):
        return images.to(torch.promote_types(images.dtype, torch.float32))
    with torch.autocast(images.device.type, enabled=False):
        exact = images.to(torch.promote_types(images.dtype, torch.float32))
        offsets = shift.to(exact)
        down, across = _shift_matrix(offsets[:, 0], height), _shift_matrix(offsets[:, 1], width)
        return (down @ exact[:, 0] @ across.transpose(1, 2))[:, None]


def fit_tone(
    images: torch.Tensor, target: torch.Tensor, *, gain_limit: float = 1.5
) -> torch.Tensor:
    """Return gain * image + offset for each image, fitted to its target by least squares.

    Gain and offset are constants for the gradient: otherwise an output could lower the loss by
    changing what is fitted. Unlike `training.ground.baselines.fit_gain_offset`, a prior draws the
    gain of flat crops to 1, and the gain is limited to a range around 1. In particular it is
    positive, so that an output of inverted contrast stays wrong.

    Args:
        images: (N, 1, H, W) float32 in [0, 1].
        target: The same shape.
        gain_limit: Largest gain, and the inverse of the smallest one; 1 fits the offset alone.
    """
    check_same_shape(images, target)
    with torch.no_grad():
        mean, target_mean = (x.mean((1, 2, 3), keepdim=True) for x in (images, target))
        centred = images - mean
        variance = (centred**2).mean((1, 2, 3), keepdim=True)
        covariance = (centred * (target - target_mean)).mean((1, 2, 3), keepdim=True)
        gain = (covariance + PRIOR_GREY**2) / (variance + PRIOR_GREY**2)
        gain = gain.clamp(1 / gain_limit, gain_limit)
        offset = target_mean - gain * mean
    return gain * images + offset


def align_pairs(
    sr: torch.Tensor,
    hr: torch.Tensor,
    shift: torch.Tensor,
    *,
    margin_px: int,
    tolerance_px: int = 1,
    gain_limit: float = 1.5,
    eps: float = 1e-3,
) -> AlignedPairs:
    """Lay outputs on their HR images.

    Each output is shifted by the known rest of its pair's shift. Then all integer shifts of up to
    `tolerance_px` along each axis are tried, and the one with the smallest Charbonnier loss after
    `fit_tone` is taken, crop by crop. That choice gets no gradient.

    Args:
        sr: (N, 1, H, W) float32, about [0, 1].
        hr: The same shape, in [0, 1].
        shift: (N, 2) distance by which the scene in `hr` lies further down and to the right.
        margin_px: Border that is left out on each side; see `margin_of`.
        tolerance_px: Largest integer shift that is tried along each axis; 1 gives nine shifts.
        gain_limit: Limit of the fit; see `fit_tone`.
        eps: Charbonnier's eps.
    """
    check_same_shape(sr, hr)
    height, width = sr.shape[-2:]
    if min(height, width) <= 2 * margin_px or margin_px < tolerance_px:
        raise ValueError(
            f"a margin of {margin_px} px leaves nothing of {height}x{width} px, or is below the "
            f"tolerance of {tolerance_px} px"
        )
    inner = without_margin(shift_images(sr, shift), margin_px)
    target = hr.to(inner.dtype)
    steps = [
        (dy, dx)
        for dy in range(-tolerance_px, tolerance_px + 1)
        for dx in range(-tolerance_px, tolerance_px + 1)
    ]
    # From the middle outwards: of equal losses the smallest shift wins.
    steps.sort(key=lambda step: step[0] ** 2 + step[1] ** 2)
    with torch.no_grad():
        losses = torch.stack(
            [
                _distance(fit_tone(inner, window, gain_limit=gain_limit), window, eps)
                for window in (_window(target, margin_px, step) for step in steps)
            ]
        )
        chosen = torch.tensor(steps, device=sr.device)[losses.argmin(0)]
    best = torch.stack(
        [
            _window(image, margin_px, (int(dy), int(dx)))
            for image, (dy, dx) in zip(target, chosen.tolist(), strict=True)
        ]
    )
    fitted = fit_tone(inner, best, gain_limit=gain_limit)
    return AlignedPairs(sr=inner, fitted=fitted, hr=best, steps=chosen)


def margin_of(largest_shift_px: float, *, tolerance_px: int = 1) -> int:
    """Return the border that no comparison may use, in pixels, for shifts of up to a size.

    Without any shift, it is the tolerance alone.
    """
    if not largest_shift_px:
        return tolerance_px
    return tolerance_px + REACH_PX + int(largest_shift_px)


def without_margin(images: torch.Tensor, margin_px: int) -> torch.Tensor:
    """Return images (N, C, H, W) without a border of a width in pixels."""
    return _window(images, margin_px, (0, 0))


def _window(images: torch.Tensor, margin_px: int, step: tuple[int, int]) -> torch.Tensor:
    height, width = images.shape[-2:]
    top, left = margin_px + step[0], margin_px + step[1]
    return images[..., top : top + height - 2 * margin_px, left : left + width - 2 * margin_px]


def _distance(images: torch.Tensor, target: torch.Tensor, eps: float) -> torch.Tensor:
    """Return the Charbonnier loss of each image, (N,)."""
    return ((images - target) ** 2 + eps**2).sqrt().mean((1, 2, 3))


def _shift_matrix(offsets: torch.Tensor, size: int) -> torch.Tensor:
    """Return (N, size, size) matrices that move columns of pixels down by (N,) offsets.

    Matrix products, because a long one-channel convolution is slow on a CPU (`losses.filters`).
    """
    whole = offsets.floor()
    fraction = (offsets - whole)[:, None]
    # The pixel at y - offset = (y - whole) - fraction lies between its neighbours of numbers
    # y - whole - 1 and y - whole; its distance from the taps is (2 - f, 1 - f, f, 1 + f).
    taps = torch.tensor([-2.0, -1.0, 0.0, 1.0], device=offsets.device, dtype=offsets.dtype)
    weights = keys(taps + fraction)
    row = torch.arange(size, device=offsets.device)
    column = (row[None, :, None] - whole[:, None, None] + taps).long().clamp(0, size - 1)
    matrix = offsets.new_zeros(len(offsets), size, size)
    return matrix.scatter_add_(2, column, weights[:, None, :].expand(-1, size, -1).contiguous())
