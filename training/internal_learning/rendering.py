"""From a trained network to the picture: views of the tile, corrections by it, the median."""

import torch

from training.internal_learning.networks import TileNetworks
from training.internal_learning.options import Options
from training.internal_learning.resize import enlarge, shrink


def render(
    network: TileNetworks, tile: torch.Tensor, factor: int, options: Options
) -> torch.Tensor:
    """Enlarge a tile by its trained network: the median over its views, corrected by the tile.

    Args:
        network: One network.
        tile: (H, W) in 0..1.
        factor: Enlargement.
        options: Number of views and of corrections.

    Returns:
        (factor * H, factor * W) in 0..1.
    """
    with torch.no_grad():
        results = []
        for turns, is_mirrored in _views(options.views):
            seen = torch.rot90(tile, turns)
            seen = seen.flip(1) if is_mirrored else seen
            size = (factor * seen.shape[0], factor * seen.shape[1])
            result = network.in_blocks(enlarge(seen, factor, size)[None])[0].clamp(0.0, 1.0)
            result = result.flip(1) if is_mirrored else result
            result = torch.rot90(result, -turns)
            results.append(back_project(result, tile, factor, options.back_projections))
        middle = _median(torch.stack(results))
        return back_project(middle, tile, factor, options.back_projections).clamp(0.0, 1.0)


def back_project(
    picture: torch.Tensor, tile: torch.Tensor, factor: int, times: int
) -> torch.Tensor:
    """Add to a picture what the tile differs from the shrunk picture, several times.

    Source: Irani and Peleg 1991, "Improving resolution by image registration", eq. 4.
    """
    size = (picture.shape[-2], picture.shape[-1])
    for _ in range(times):
        picture = picture + enlarge(tile - shrink(picture, factor), factor, size)
    return picture


def _views(count: int) -> list[tuple[int, bool]]:
    """Return quarter turns and mirroring of each view; of four, the mirror images alone."""
    if count == 8:
        return [(turns, is_mirrored) for turns in range(4) for is_mirrored in (False, True)]
    return [(0, False), (0, True), (2, False), (2, True)][:count]


def _median(values: torch.Tensor) -> torch.Tensor:
    """Return the median over the first axis; of an even number, the mean of the middle two."""
    ordered = values.sort(dim=0).values
    middle = len(values) // 2
    return ordered[middle] if len(values) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])
