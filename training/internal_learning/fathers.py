"""Fathers: crops of the tile that its network learns to reproduce, in random views.

The published code takes the tile as it is in 5 % of the steps, turned, mirrored and shifted by
whole pixels in 45 %, and under a random affine map in 50 %. Here all three are one map from the
crop's pixels to the tile's, and what keeps whole pixels is exact.

Source: Shocher et al. 2018, "Zero-Shot Super-Resolution using Deep Internal Learning", section 3.1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.ground.keys import keys
from training.internal_learning.options import Options
from training.internal_learning.resize import resize_weights

AS_IS_SHARE = 0.05
WHOLE_PIXELS_SHARE = 0.45
LEAST_SCALE = 0.25
"""Bound on what chance may shrink a father to: below it hardly anything is left of the tile."""

DRAWS = 8
"""Even draws of a step: the same number in every mode, so that modes do not shift each other."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One random view of a father.

    Attributes:
        source: Number of the picture that the crop is cut from.
        scale_y, scale_x: Scales that the picture is shrunk by first, at most 1.
        turn: ((yy, yx), (xy, xx)) map from offsets in the crop to offsets in the shrunk picture.
        centre_y, centre_x: Centre of the crop there, in pixels from the top left edge.
    """

    source: int
    scale_y: float
    scale_x: float
    turn: tuple[tuple[float, float], tuple[float, float]]
    centre_y: float
    centre_x: float


def draw_view(
    rng: np.random.Generator, shapes: Sequence[tuple[int, int]], *, crop_px: int, options: Options
) -> View:
    """Draw the view of one step.

    Args:
        rng: Random numbers of the tile; each call takes the same number of them.
        shapes: (H, W) of the pictures, the tile first, larger ones behind it.
        crop_px: Side of the crop, at most the least side of the tile.
        options: Options of the run.
    """
    mode, pick, scale, angle, mirror, quarter, *place = rng.random(DRAWS)
    stretch, shear = rng.standard_normal(2)
    source, relative = _draw_source(shapes, pick, scale, options)
    height, width = shapes[source]
    scale_y = scale_x = 1.0
    turn = np.eye(2)
    if mode >= AS_IS_SHARE + WHOLE_PIXELS_SHARE:
        ratio = math.exp(0.5 * options.shape_sigma * stretch)
        # An enlarged father would teach blur.
        scale_y = min(max(relative * ratio, LEAST_SCALE), 1.0)
        scale_x = min(max(relative / ratio, LEAST_SCALE), 1.0)
        turn = np.array([[1.0, 0.0], [options.shear_sigma * shear, 1.0]])
        if options.turns:
            cosine, sine = math.cos(2 * math.pi * angle), math.sin(2 * math.pi * angle)
            turn = np.array([[cosine, -sine], [sine, cosine]]) @ turn
    elif mode >= AS_IS_SHARE and options.turns:
        turn = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), int(4 * quarter))
    if mode >= AS_IS_SHARE:
        flips = int(4 * mirror)
        turn = turn @ np.diag([1.0 - 2 * (flips & 1), 1.0 - (flips & 2)])
    # Without a shift by parts of a pixel, so that the noise of a father stays that of the tile.
    is_whole = np.array_equal(np.abs(turn), np.abs(np.rint(turn))) and scale_y == scale_x == 1.0
    half = np.abs(turn).sum(1) * crop_px / 2
    centres = [
        _draw_centre(share, length * by, extent, is_whole=is_whole)
        for share, length, by, extent in zip(
            place, (height, width), (scale_y, scale_x), half, strict=True
        )
    ]
    (yy, yx), (xy, xx) = turn.tolist()
    return View(
        source=source,
        scale_y=scale_y,
        scale_x=scale_x,
        turn=((yy, yx), (xy, xx)),
        centre_y=centres[0],
        centre_x=centres[1],
    )


def cut(pictures: torch.Tensor, views: Sequence[View], *, crop_px: int) -> torch.Tensor:
    """Cut one crop from each picture.

    Args:
        pictures: (T, H, W) float in 0..1.
        views: T views of them.
        crop_px: Side of the crops.

    Returns:
        (T, crop_px, crop_px), same dtype, in 0..1. Beyond the border the picture is mirrored.
    """
    scales_y, scales_x = [view.scale_y for view in views], [view.scale_x for view in views]
    sides = pictures.shape[-2:]
    if min(*scales_y, *scales_x) < 1:
        rows = _shrinking(scales_y, sides[0], pictures)
        columns = _shrinking(scales_x, sides[1], pictures)
        pictures = rows @ pictures @ columns.transpose(1, 2)
    device = pictures.device
    turns = torch.tensor([view.turn for view in views], dtype=torch.float64, device=device)
    centres = torch.tensor(
        [(view.centre_y, view.centre_x) for view in views], dtype=torch.float64, device=device
    )
    offsets = torch.arange(crop_px, dtype=torch.float64, device=device) + 0.5 - crop_px / 2
    weights, indices = [], []
    for axis, scales in enumerate((scales_y, scales_x)):
        along_y = turns[:, axis, 0, None, None] * offsets[:, None]
        along_x = turns[:, axis, 1, None, None] * offsets[None, :]
        place = centres[:, axis, None, None] + along_y + along_x - 0.5
        first = torch.floor(place)
        taps = first[..., None] + torch.arange(-1, 3, dtype=torch.float64, device=device)
        weights.append(keys(taps - place[..., None]).to(pictures.dtype))
        lengths = torch.tensor([_kept(sides[axis], scale) for scale in scales], device=device)
        indices.append(_mirrored(taps.long(), lengths[:, None, None, None]))
    flat = indices[0][..., :, None] * pictures.shape[-1] + indices[1][..., None, :]
    values = pictures.flatten(1).gather(1, flat.flatten(1)).view(flat.shape)
    crops = torch.einsum("tijab,tija,tijb->tij", values, weights[0], weights[1])
    return crops.clamp(0.0, 1.0)


def _draw_source(
    shapes: Sequence[tuple[int, int]], pick: float, scale: float, options: Options
) -> tuple[int, float]:
    """Return the number of the picture to cut from, and the scale to shrink it by."""
    if options.draw == "size":
        areas = np.cumsum([height * width for height, width in shapes])
        source = int(np.searchsorted(areas, pick * areas[-1], side="right"))
        return source, options.min_scale + scale * (1 - options.min_scale)
    # An even draw of the scale relative to the tile, taken from the smallest picture that has it.
    sizes = [height / shapes[0][0] for height, _ in shapes]
    wanted = options.min_scale + scale * (sizes[-1] - options.min_scale)
    source = next(number for number, size in enumerate(sizes) if size >= wanted)
    return source, wanted / sizes[source] if options.min_scale < 1 else 1.0


def _draw_centre(share: float, length: float, half: float, *, is_whole: bool) -> float:
    if length <= 2 * half:
        return length / 2
    free = length - 2 * half
    return half + (math.floor(share * (free + 1)) if is_whole else share * free)


def _shrinking(scales: Sequence[float], length: int, like: torch.Tensor) -> torch.Tensor:
    kept = max(_kept(length, scale) for scale in scales)
    wanted = torch.tensor(scales, dtype=torch.float64, device=like.device)
    return resize_weights(wanted, length=length, out_length=kept).to(like.dtype)


def _kept(length: int, scale: float) -> int:
    """Return how many whole pixels a line has after shrinking."""
    return max(int(length * scale), 1)


def _mirrored(index: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Fold indices beyond a line back into it: -1 to 0, `length` to `length - 1`."""
    index = torch.remainder(index, 2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)
