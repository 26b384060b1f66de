"""Matching of an LR image with a reference in feature space, and transfer of reference features.

Flow: features of LR and of the reduced reference -> `match` (coarse by blocks, then fine by pixels)
-> `Matches` -> `transfer`, at each scale of the reference's own features. The places are found
without gradient, since an index has none; the scores carry one.

Source: Lu et al. 2021, "MASA-SR: Matching Acceleration and Spatial Adaptation for Reference-Based
Image Super-Resolution", section 3.2 (Match and Extraction Module). Own code.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

BLOCK_PX = 8
"""Side of the blocks that LR features are cut into; each is searched for in one window."""

WINDOW_PX = 12
"""Side of the window at equal sizes of LR and reference: one and a half blocks."""

DILATIONS = (1, 2, 3)
"""Distances between the taps of the 3x3 patches at a block's centre, for the coarse search."""

MAX_CHUNK = 1 << 24
"""Numbers that a search holds at once, so that a whole tile needs 64 MB and not gigabytes."""

_EPS = 1e-12
_TAPS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Best place in the reduced reference for each pixel of the LR features.

    Attributes:
        rows: (N, H, W) int64, rows of the reduced reference. H and W are multiples of `BLOCK_PX`.
        columns: (N, H, W) int64, its columns.
        scores: (N, 1, H, W) float32, cosine of the two 3x3 patches, in [-1, 1]; with gradient.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    scores: torch.Tensor


def match(lr: torch.Tensor, reference: torch.Tensor) -> Matches:
    """Find the place of every LR feature pixel in a reference of the same resolution.

    Both searches compare 3x3 patches by their cosine, so a factor on the features changes nothing.
    Beyond the border, features are 0.

    Args:
        lr: (N, C, H, W) float32 features. H and W need not be multiples of `BLOCK_PX`: the features
            are continued by reflection.
        reference: (N, C, R, R') float32 features of the reduced reference, or (1, C, R, R') of one
            for all.
    """
    height, width = lr.shape[-2:]
    lr = reflected(lr, -height % BLOCK_PX, -width % BLOCK_PX)
    with torch.no_grad():
        centres = coarse_places(lr, reference)
        window = tuple(
            _window_px(size, of)
            for size, of in zip((height, width), reference.shape[-2:], strict=True)
        )
        rows, columns = fine_places(lr, reference, centres, window=(window[0], window[1]))
    return Matches(rows=rows, columns=columns, scores=_scores(lr, reference, rows, columns))


def coarse_places(lr: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Find the best place of every block's centre in the whole reference.

    The score of a place is the sum over `DILATIONS` of the cosine of the 3x3 patches around it and
    around the centre of the block.

    Args:
        lr: (N, C, H, W) features; H and W multiples of `BLOCK_PX`.
        reference: (N or 1, C, R, R') features.

    Returns:
        (N, H/8 * W/8, 2) int64, row and column, blocks in reading order.
    """
    places = []
    for number, image in enumerate(lr):
        features = reference[min(number, len(reference) - 1)][None]
        places.append(_coarse_places_of_one(image, features))
    return torch.stack(places)


def _coarse_places_of_one(image: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    height, width = features.shape[-2:]
    kernels = [_centre_patches(image, dilation) for dilation in DILATIONS]
    energy = features.square().sum(1, keepdim=True)
    ones = torch.ones(1, 1, 3, 3, device=features.device, dtype=features.dtype)
    norms = [
        functional.conv2d(energy, ones, padding=d, dilation=d).clamp_min(_EPS).sqrt()
        for d in DILATIONS
    ]
    count = max(1, MAX_CHUNK // (height * width))
    best = []
    for start in range(0, len(kernels[0]), count):
        total = torch.zeros((), device=features.device)
        for dilation, kernel, norm in zip(DILATIONS, kernels, norms, strict=True):
            products = functional.conv2d(
                features, kernel[start : start + count], padding=dilation, dilation=dilation
            )
            total = total + products / norm
        best.append(total[0].flatten(1).argmax(1))
    place = torch.cat(best)
    return torch.stack([place // width, place % width], dim=1)


def _centre_patches(image: torch.Tensor, dilation: int) -> torch.Tensor:
    """Return the normalised 3x3 patches at the centres of all blocks, (K, C, 3, 3)."""
    middle = BLOCK_PX // 2
    taps = [
        image[:, middle + dilation * dy :: BLOCK_PX, middle + dilation * dx :: BLOCK_PX]
        for dy, dx in _TAPS
    ]
    patches = torch.stack(taps, dim=-1).flatten(1, 2).transpose(0, 1)
    normalised = functional.normalize(patches.flatten(1), dim=1)
    return normalised.reshape(*patches.shape[:2], 3, 3)


def fine_places(
    lr: torch.Tensor, reference: torch.Tensor, centres: torch.Tensor, *, window: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the best place of every pixel in the window around its block's place.

    Args:
        lr: (N, C, H, W) features; H and W multiples of `BLOCK_PX`.
        reference: (N or 1, C, R, R') features.
        centres: (N, K, 2) places of the blocks, of `coarse_places`.
        window: Height and width of the window, at most those of the reference. A window that would
            reach beyond the border is shifted inside.

    Returns:
        Rows and columns, (N, H, W) int64 each.
    """
    count, _, height, width = lr.shape
    across, down = width // BLOCK_PX, height // BLOCK_PX
    device = lr.device
    block = torch.arange(count * down * across, device=device)
    image = block // (down * across)
    top, left = (
        BLOCK_PX * (block // across % down),
        BLOCK_PX * (block % across),
    )
    limits = [of - side for of, side in zip(reference.shape[-2:], window, strict=True)]
    corner_y, corner_x = (
        (centres[..., axis].flatten() - window[axis] // 2).clamp(0, limits[axis]) for axis in (0, 1)
    )
    lr_padded, reference_padded = (functional.pad(x, (1, 1, 1, 1)) for x in (lr, reference))
    of_reference = image.clamp_max(len(reference) - 1)
    step = max(1, MAX_CHUNK // (9 * lr.shape[1] * max(window[0] * window[1], BLOCK_PX**2)))
    found = []
    for start in range(0, len(block), step):
        part = slice(start, start + step)
        queries = _patches(lr_padded, image[part], top[part], left[part], size=(BLOCK_PX, BLOCK_PX))
        keys = _patches(
            reference_padded, of_reference[part], corner_y[part], corner_x[part], size=window
        )
        found.append(torch.bmm(queries.transpose(1, 2), keys).argmax(2))
    place = torch.cat(found)
    rows = corner_y[:, None] + place // window[1]
    columns = corner_x[:, None] + place % window[1]
    shape = (count, down, across, BLOCK_PX, BLOCK_PX)
    joined = [
        x.reshape(shape).transpose(2, 3).reshape(count, height, width) for x in (rows, columns)
    ]
    return joined[0], joined[1]


def _patches(
    padded: torch.Tensor,
    image: torch.Tensor,
    top: torch.Tensor,
    left: torch.Tensor,
    *,
    size: tuple[int, int],
) -> torch.Tensor:
    """Return the normalised 3x3 patches of boxes, (B, 9*C, h*w).

    Args:
        padded: (N, C, H + 2, W + 2) features with a border of zeros.
        image: (B,) image of each box.
        top: (B,) first row of each box, without the border.
        left: (B,) its first column.
        size: h and w of all boxes.
    """
    rows = top[:, None] + torch.arange(size[0] + 2, device=top.device)
    columns = left[:, None] + torch.arange(size[1] + 2, device=top.device)
    boxes = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return functional.normalize(functional.unfold(boxes.permute(0, 3, 1, 2), 3), dim=1)


def _scores(
    lr: torch.Tensor, reference: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Return the cosines of the matched 3x3 patches, (N, 1, H, W), with gradient.

    One tap after the other: all patches of a tile at once would take nine times the features.
    """
    count, _, height, width = lr.shape
    lr_padded, reference_padded = (functional.pad(x, (1, 1, 1, 1)) for x in (lr, reference))
    product, lr_energy, reference_energy = (lr.new_zeros(count, height, width) for _ in range(3))
    for dy, dx in _TAPS:
        ours = lr_padded[:, :, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        theirs = _taken(reference_padded, rows + dy + 1, columns + dx + 1).permute(0, 3, 1, 2)
        product = product + (ours * theirs).sum(1)
        lr_energy = lr_energy + ours.square().sum(1)
        reference_energy = reference_energy + theirs.square().sum(1)
    norms = lr_energy.clamp_min(_EPS).sqrt() * reference_energy.clamp_min(_EPS).sqrt()
    return (product / norms)[:, None]


def transfer(features: torch.Tensor, matches: Matches, *, scale: int) -> torch.Tensor:
    """Lay out reference features as the matches say, weighted by their scores.

    Every match brings a patch of 3x3 cells, a cell being the s x s features of one pixel of the
    reduced reference. Patches overlap within a block, where they are averaged; blocks are apart, as
    published. The same as unfolding patches of side 3s at stride s and folding them with a
    divisor, at a ninth of the memory.

    Args:
        features: (N or 1, C, s*R, s*R') float32 features of the reference; beyond the border 0.
        matches: Matches on the grid of the reduced reference.
        scale: s, features per pixel of the reduced reference in each direction.

    Returns:
        (N, C, s*H, s*W), H and W those of the matches.
    """
    cells = functional.pad(functional.pixel_unshuffle(features, scale), (1, 1, 1, 1))
    height, width = matches.rows.shape[-2:]
    device = features.device
    row_in_block = torch.arange(height, device=device)[:, None] % BLOCK_PX
    column_in_block = torch.arange(width, device=device) % BLOCK_PX
    total = torch.zeros((), device=device)
    divisor = torch.zeros(height, width, device=device)
    for dy, dx in _TAPS:
        # The patch of the neighbour at (dy, dx), where that lies in the same block.
        inside = (
            (row_in_block + dy >= 0)
            & (row_in_block + dy < BLOCK_PX)
            & (column_in_block + dx >= 0)
            & (column_in_block + dx < BLOCK_PX)
        ).float()
        rows, columns = (
            torch.roll(of, (-dy, -dx), (1, 2)) for of in (matches.rows, matches.columns)
        )
        taken = _taken(cells, rows - dy + 1, columns - dx + 1)
        total = total + taken * inside[..., None]
        divisor = divisor + inside
    laid_out = functional.pixel_shuffle((total / divisor[..., None]).permute(0, 3, 1, 2), scale)
    weights = functional.interpolate(
        matches.scores, scale_factor=float(scale), mode="bilinear", align_corners=False
    )
    return laid_out * weights


def _taken(features: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the features at places, channels last: (N or 1, C, R, R') to (N, H, W, C).

    Whole vectors are copied, which is several times as fast as gathering each channel.
    """
    count, channels, height, width = features.shape
    table = features.permute(0, 2, 3, 1).reshape(count * height * width, channels)
    place = rows * width + columns
    if count > 1:
        place = place + height * width * torch.arange(count, device=rows.device)[:, None, None]
    return table.index_select(0, place.flatten()).reshape(*place.shape, channels)


def reflected(image: torch.Tensor, bottom: int, right: int) -> torch.Tensor:
    """Continue an image (N, C, H, W) by reflection at its lower and right border.

    Unlike `torch.nn.functional.pad`, it takes images smaller than what is added.
    """
    height, width = image.shape[-2:]
    if bottom:
        image = image.index_select(2, _reflection(height, bottom, image.device))
    if right:
        image = image.index_select(3, _reflection(width, right, image.device))
    return image


def _reflection(size: int, more: int, device: torch.device) -> torch.Tensor:
    place = torch.arange(size + more, device=device) % max(2 * (size - 1), 1)
    return torch.where(place < size, place, 2 * (size - 1) - place)


def _window_px(lr_px: int, reference_px: int) -> int:
    """Return a side of the window: it grows with a reference larger than the LR image."""
    return min(int(WINDOW_PX * max(1.0, reference_px / lr_px)), reference_px)
