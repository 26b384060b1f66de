"""FSeSim: compare the self-similarity of two images instead of their looks.

The self-similarity map of a query place tells how similar the other places of the image are to it.
Two images with the same layout have about the same maps despite different tone, noise or sharpness.
The maps' difference is therefore a structure loss between images of different looks.

Flow: source and output -> `training.losses.features` -> self-similarity maps -> a scalar.

Source: Zheng, Cham and Cai 2021, "The spatially-correlative loss for various image translation
tasks", eq. 1 to 3, and the form its published code gives them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch.nn import functional

from training.losses.features import Vgg16
from training.losses.queries import draw_queries, rarity_map
from training.losses.shapes import check_same_shape

Form = Literal["paper", "paper_l1", "normalised_l1", "normalised_l1_maps"]


def self_similarity(
    features: torch.Tensor, queries: torch.Tensor, *, form: Form, window_cells: int | None = None
) -> torch.Tensor:
    """Compute the self-similarity map of every query place.

    Features are centred per channel over the map. "paper", "paper_l1": q and k are divided by
    sqrt(C) and S = tanh(q.k / 10). "normalised_l1", "normalised_l1_maps": q and k have length 1 and
    S = q.k.

    All keys are compared and the window's gathered: the products cost next to nothing compared with
    the feature network, while gathered keys would need C times the memory of their products.

    Args:
        features: (N, C, h, w).
        queries: (Q,) or (N, Q) ids from `draw_queries`.
        form: Scale of the features, and how maps are compared; see `fsesim`.
        window_cells: Keys are the cells of a square of this side around the query, moved into the
            map at its border; None, or a window no smaller than a side, compares with all of that
            side.

    Returns:
        (N, Q, K) float32 also under autocast.
    """
    batch, channels, height, width = features.shape
    with torch.autocast(features.device.type, enabled=False):
        exact = features.to(torch.promote_types(features.dtype, torch.float32))
        exact = exact - exact.mean((2, 3), keepdim=True)
        if form not in get_args(Form):
            raise ValueError(f"forms are {', '.join(get_args(Form))}, got {form!r}")
        is_paper = form in ("paper", "paper_l1")
        exact = exact / channels**0.5 if is_paper else functional.normalize(exact, dim=1)
        keys = exact.flatten(2)
        ids = queries.to(features.device)
        ids = ids.expand(batch, -1) if ids.ndim == 1 else ids
        query = keys.gather(2, ids[:, None].expand(-1, channels, -1))
        similarity = query.transpose(1, 2) @ keys
        if window_cells is not None and window_cells < max(height, width):
            window = _window_ids(ids, height=height, width=width, window_cells=window_cells)
            similarity = similarity.gather(2, window)
        return torch.tanh(similarity / 10) if is_paper else similarity


def fsesim(
    source: torch.Tensor,
    target: torch.Tensor,
    queries: torch.Tensor,
    *,
    form: Form = "normalised_l1",
    window_cells: int | None = None,
) -> torch.Tensor:
    """Compare the self-similarity maps of two images at one tap.

    For each query, only the int(K / 4) + 1 of K keys with the highest target similarity count; both
    maps are set to 0 elsewhere. Two forms compare the cosine c of the maps with 1: "paper" by
    smooth L1, 0.5 (1 - c)^2, whose gradient fades near agreement, and "normalised_l1" by L1, 1 - c.
    Two forms compare the maps themselves, times K / int(K / 4), as the mean over all keys:
    "paper_l1" by smooth L1 and "normalised_l1_maps" by L1. They follow the published code's L1 mode
    and also respond to the strength of a similarity, and so to contrast and noise.

    Args:
        source: (N, C, h, w) features of the image whose structure is kept; gets no gradient.
        target: (N, C, h, w) features of the generated image.
        queries: (Q,) or (N, Q) ids from `draw_queries`.
        form: Form of features and comparison, see above.
        window_cells: Side of the window of keys, see `self_similarity`.

    Returns:
        Scalar, the mean over queries and images: 0 for the same structure.

    Source: Zheng et al. 2021, eq. 1 to 3; centring, tanh and the quarter are in its code only.
    Equal to that code on square maps (tests/training/losses/test_published_numbers.py).
    """
    check_same_shape(source, target)
    source_map = self_similarity(source.detach(), queries, form=form, window_cells=window_cells)
    target_map = self_similarity(target, queries, form=form, window_cells=window_cells)
    return compare_maps(source_map, target_map, form=form)


def compare_maps(source_map: torch.Tensor, target_map: torch.Tensor, *, form: Form) -> torch.Tensor:
    """Return the difference of self-similarity maps (N, Q, K), a scalar; see `fsesim`."""
    num_keys = target_map.shape[-1]
    kept = min(num_keys, num_keys // 4 + 1)
    least = target_map.detach().topk(kept, dim=-1).values[..., -1:]
    counts = target_map.detach() >= least
    source_map, target_map = source_map * counts, target_map * counts
    if form in ("paper_l1", "normalised_l1_maps"):
        factor = num_keys / max(1, num_keys // 4)
        compared, wanted = factor * target_map, factor * source_map
    else:
        compared = functional.cosine_similarity(source_map, target_map, dim=-1)
        wanted = torch.ones_like(compared)
    if form in ("paper", "paper_l1"):
        return functional.smooth_l1_loss(compared, wanted)
    return functional.l1_loss(compared, wanted)


def window_in_cells(window_px: int | None, *, stride: int) -> int | None:
    """Convert a window's side from image pixels to cells of a map, at least 1; None stays None."""
    return None if window_px is None else max(1, round(window_px / stride))


@dataclass(frozen=True)
class SpatialCorrelation:
    """FSeSim over all taps of a feature network.

    Args:
        features: Feature network; its taps are averaged.
        form: Form, see `fsesim`. Only the paper's forms depend on the features' scale (tanh).
        num_queries: Query places for each tap.
        window_px: Side of the key window in image pixels; None is the whole map.
        salient_share: Share of the queries drawn where the source is salient (`rarity_map`); 0
            draws one even set for the whole batch, as published.
        border_px: Ignored margin of the maps in image pixels, at most a quarter of each side.
            Because of the network's zero padding, the border is the most unusual place of a regular
            image. None means 16 with salient queries; without them 0, as published.
    """

    features: Vgg16
    form: Form = "normalised_l1"
    num_queries: int = 256
    window_px: int | None = None
    salient_share: float = 0.0
    border_px: int | None = None

    def __call__(
        self, source: torch.Tensor, target: torch.Tensor, *, generator: torch.Generator
    ) -> torch.Tensor:
        """Return the structure loss between two batches.

        Args:
            source: (N, 1, H, W) float32 in [0, 1], such as the enlarged LR image; no gradient.
            target: The same shape, such as the generated image.
            generator: Source of the queries, on the CPU; they are drawn again for each tap.
        """
        check_same_shape(source, target)
        with torch.no_grad():
            source_taps = self.features(source)
        target_taps = self.features(target)

        def loss_of_tap(tap: str) -> torch.Tensor:
            stride = self.features.strides[tap]
            source_map = self._inner(source_taps[tap], stride)
            target_map = self._inner(target_taps[tap], stride)
            queries = self._queries(source_map, generator=generator)
            window = window_in_cells(self.window_px, stride=stride)
            return fsesim(source_map, target_map, queries, form=self.form, window_cells=window)

        return mean_over_taps(source_taps, loss_of_tap)

    def _queries(self, features: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        height, width = features.shape[-2:]
        saliency = rarity_map(features, generator=generator) if self.salient_share > 0 else None
        return draw_queries(
            height,
            width,
            self.num_queries,
            generator=generator,
            saliency=saliency,
            salient_share=self.salient_share,
        )

    def _inner(self, maps: torch.Tensor, stride: int) -> torch.Tensor:
        """Cut the border off feature maps (N, C, h, w)."""
        border_px = self.border_px
        if border_px is None:
            border_px = 16 if self.salient_share > 0 else 0
        height, width = maps.shape[-2:]
        cells = min(round(border_px / stride), height // 4, width // 4)
        return maps[..., cells : height - cells, cells : width - cells]


def mean_over_taps(
    taps: dict[str, torch.Tensor], loss_of_tap: Callable[[str], torch.Tensor]
) -> torch.Tensor:
    """Average a loss over the taps with equal weights."""
    return torch.stack([loss_of_tap(tap) for tap in taps]).mean()


def _window_ids(ids: torch.Tensor, *, height: int, width: int, window_cells: int) -> torch.Tensor:
    """Return the row-major ids of the cells in each query's window, (N, Q, K)."""
    rows, columns = min(window_cells, height), min(window_cells, width)
    top = (ids // width - rows // 2).clamp(0, height - rows)
    left = (ids % width - columns // 2).clamp(0, width - columns)
    row = top[..., None] + torch.arange(rows, device=ids.device)
    column = left[..., None] + torch.arange(columns, device=ids.device)
    return (row[..., :, None] * width + column[..., None, :]).flatten(2)
