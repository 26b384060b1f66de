"""Query places of FSeSim on a feature map, drawn evenly or preferably at unusual places.

A small defect covers few places of a map. A loss averaged over evenly drawn places hardly changes
when the defect vanishes. Drawing part of the queries by saliency fixes this; see `rarity_map`.
"""

import torch
from torch.nn import functional


def draw_queries(
    height: int,
    width: int,
    count: int,
    *,
    generator: torch.Generator,
    saliency: torch.Tensor | None = None,
    salient_share: float = 0.5,
) -> torch.Tensor:
    """Draw query places of a feature map, as row-major ids `row * width + column`.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        count: Number of queries; all places if the map has fewer.
        generator: Source of the draws, on the CPU.
        saliency: (N, 1, height, width), non-negative, or None for even draws. On a GPU it is copied
            to the CPU, which waits for it.
        salient_share: Share of the queries drawn in proportion to the saliency, with replacement,
            so that a place drawn twice counts twice. The others are even draws of different places.

    Returns:
        int64 ids on the CPU: (Q,) shared by all images without saliency, else (N, Q).

    Raises:
        ValueError: An argument is out of range or `saliency` has another shape.
    """
    places = height * width
    count = min(count, places)
    if count < 1 or not 0 <= salient_share <= 1:
        raise ValueError(
            f"queries need a map with places, count >= 1 and a share in [0, 1], got {height}x"
            f"{width}, {count} and {salient_share}"
        )
    if saliency is None:
        return torch.randperm(places, generator=generator)[:count]
    if saliency.ndim != 4 or tuple(saliency.shape[1:]) != (1, height, width):
        raise ValueError(f"saliency must be (N, 1, {height}, {width}), got {tuple(saliency.shape)}")
    weights = saliency.detach().double().cpu().flatten(1)
    # The tiny constant makes the draws of a flat image even instead of an error.
    weights = weights / weights.amax(1, keepdim=True).clamp(min=1e-12) + 1e-9
    num_salient = round(count * salient_share)
    rows = []
    for weight in weights:
        # By the inverse of the cumulative weights: torch.multinomial refuses zero draws.
        bounds = weight.cumsum(0)
        draws = torch.rand(num_salient, generator=generator, dtype=torch.float64) * bounds[-1]
        salient = torch.searchsorted(bounds, draws, right=True).clamp(max=places - 1)
        even = torch.randperm(places, generator=generator)[: count - num_salient]
        rows.append(torch.cat([salient, even]))
    return torch.stack(rows)


def rarity_map(
    features: torch.Tensor,
    *,
    generator: torch.Generator,
    num_keys: int = 1024,
    nearest_share: float = 1 / 16,
) -> torch.Tensor:
    """Measure how unusual each place of a feature map is, regardless of the pattern's contrast.

    The rarity is (1 - c)^4 with the mean cosine c between a place and the most similar sixteenth of
    the compared places, after centring each channel. A place of a repeated pattern resembles many
    others, a defect few. Power and share were chosen by measurement: with half of the queries drawn
    by rarity, a blob erased from lines or dots (0.25 or 1 % of a crop of 128 or 192 px) changes
    FSeSim's normalised form 2.3 to 12 times as much as with even draws, and the paper's form more.

    Args:
        features: (N, C, h, w) of the source.
        generator: Source of the keys' draw, on the CPU.
        num_keys: Places compared with, drawn evenly; all where the map has no more.
        nearest_share: Share of the keys that count, in (0, 1].

    Returns:
        (N, 1, h, w) in [0, 16], without gradient.
    """
    batch, _, height, width = features.shape
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        exact = features.float()
        exact = functional.normalize(exact - exact.mean((2, 3), keepdim=True), dim=1).flatten(2)
        keys = exact
        if height * width > num_keys:
            drawn = torch.randperm(height * width, generator=generator)[:num_keys]
            keys = exact[..., drawn.to(exact.device)]
        cosines = exact.transpose(1, 2) @ keys
        nearest = max(1, round(keys.shape[-1] * nearest_share))
        resemblance = cosines.topk(nearest, dim=-1).values.mean(-1)
        return ((1 - resemblance) ** 4).view(batch, 1, height, width)
