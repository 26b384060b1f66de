"""LSeSim: FSeSim on features from small heads that are trained by a contrastive loss.

A place's self-similarity map must resemble the map of the same place in a re-toned copy of the
image more than the maps of other places and of other images. The generator's loss uses the heads
without changing them.

Source: Zheng, Cham and Cai 2021, section 3.2, eq. 4, and the form its published code gives it.
"""

from typing import Literal, cast

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from training.losses.features import Vgg16
from training.losses.patch_nce import LEAST_WEIGHT
from training.losses.queries import draw_queries
from training.losses.shapes import check_same_shape
from training.losses.spatial_correlation import (
    Form,
    compare_maps,
    mean_over_taps,
    self_similarity,
    window_in_cells,
)
from training.losses.transport import Kind, transport_weights

Positives = Literal["official", "augmented_only"]
Negatives = Literal["equal", "hard", "easy"]
HeadInit = Literal["kaiming", "normal"]

PUBLISHED_DEVIATION = 0.02
"""Standard deviation of the initial weights in the published code. Similarities then start at about
1e-4, with Kaiming's initialisation at about 0.1."""


def contrastive_loss(
    source_map: torch.Tensor,
    target_map: torch.Tensor,
    other_map: torch.Tensor,
    *,
    temperature: float = 0.07,
    negatives: Negatives = "equal",
    beta: float = 0.2,
) -> torch.Tensor:
    """Return the loss that separates a query's map from those of other queries and another image.

    Maps are normalised to length 1. For query i, the logits are source_i . target_j,
    source_i . other_j and target_i . other_j for all j, divided by the temperature. The logit
    source_i . target_i is the positive; the other 3 Q - 1 are negatives. On a pattern with a pitch,
    some negatives are repeats of the query's own place. "easy" takes their weight away, "hard" adds
    to it: each of the three blocks of logits is weighted by a transport plan of its own, whose
    weights are 1 on average.

    Args:
        source_map: (N, Q, K) self-similarity maps.
        target_map: (N, Q, K) of an image with the same structure, same queries.
        other_map: (N, Q, K) of an image with another structure.
        temperature: Divisor of the logits.
        negatives: Weights of the negatives: "equal" as published, or those of
            `transport.transport_weights`.
        beta: Entropy of the plan; not used with "equal".

    Returns:
        Scalar cross-entropy, the mean over queries and images.

    Source: Zheng et al. 2021, eq. 4; the weights as the thesis suggests (A.2), after Zhan et al.
    2022.
    """
    check_same_shape(source_map, target_map)
    check_same_shape(source_map, other_map)
    with torch.autocast(source_map.device.type, enabled=False):
        exact = torch.promote_types(source_map.dtype, torch.float32)
        source, target, other = (
            functional.normalize(x.to(exact), dim=-1) for x in (source_map, target_map, other_map)
        )
        blocks = [
            source @ target.transpose(1, 2),
            source @ other.transpose(1, 2),
            target @ other.transpose(1, 2),
        ]
        if negatives != "equal":
            blocks = [
                _weighted(block, temperature, kind=negatives, beta=beta, has_positives=not number)
                for number, block in enumerate(blocks)
            ]
        logits = torch.cat(blocks, dim=-1)
        batch, count, _ = source.shape
        right = torch.arange(count, device=source.device).repeat(batch)
        return functional.cross_entropy(logits.flatten(0, 1) / temperature, right)


def _weighted(
    similarity: torch.Tensor, temperature: float, *, kind: Kind, beta: float, has_positives: bool
) -> torch.Tensor:
    """Return similarities such that, divided by the temperature, negatives count their weight."""
    weights = transport_weights(similarity, beta=beta, kind=kind, has_positives=has_positives)
    factor = (similarity.shape[-1] - has_positives) * weights
    weighted = similarity + temperature * torch.log(factor + LEAST_WEIGHT)
    if not has_positives:
        return weighted
    own = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    return torch.where(own, similarity, weighted)


def jitter_tone(
    images: torch.Tensor,
    *,
    generator: torch.Generator,
    brightness: float = 0.5,
    contrast: float = 0.5,
) -> torch.Tensor:
    """Change the images' tone by random brightness and contrast factors; clamp to [0, 1].

    Args:
        images: (N, 1, H, W) float32 in [0, 1].
        generator: Source of the draws, on the CPU.
        brightness: Half-width of the factor on grey, which is uniform around 1.
        contrast: Half-width of the factor on the distance from the mean, uniform around 1.

    Source: torchvision's ColorJitter, as the published code uses it; grey has no hue.
    """
    draws = torch.rand(2, images.shape[0], 1, 1, 1, generator=generator).to(images.device)
    gain = 1 + brightness * (2 * draws[0] - 1)
    spread = 1 + contrast * (2 * draws[1] - 1)
    brighter = (images * gain).clamp(0, 1)
    mean = brighter.mean((1, 2, 3), keepdim=True)
    return ((brighter - mean) * spread + mean).clamp(0, 1)


class LearnedCorrelation(nn.Module):
    """LSeSim: one head for each tap, the heads' contrastive loss, and the generator's loss.

    A head is a 1x1 convolution from C to max(32, C / 4) channels, ReLU and another 1x1 convolution.
    Only the heads are parameters of this module.

    Args:
        features: Frozen feature network.
        form: Form, see `spatial_correlation.fsesim`.
        num_queries: Query places for each tap.
        window_px: Side of the key window in image pixels; None is the whole map. Its authors say
            that the learned form needs local windows.
        temperature: Divisor of the logits, see `contrastive_loss`.
        positives: Positive pairs of images. "augmented_only": the source and its re-toned copy.
            "official": also the source and the generated image, so that the heads may learn to
            overlook the generator's errors; the published code with its option `--augment`.
        negatives: Weights of the negatives, see `contrastive_loss`.
        beta: Entropy of these weights.
        init: Weights of fresh heads: "normal" as published (deviation 0.02), or "kaiming"; biases
            are 0.
        generator: Source of the initial weights; PyTorch's global one if None.
    """

    def __init__(
        self,
        features: Vgg16,
        *,
        form: Form = "paper",
        num_queries: int = 256,
        window_px: int | None = 128,
        temperature: float = 0.07,
        positives: Positives = "official",
        negatives: Negatives = "equal",
        beta: float = 0.2,
        init: HeadInit = "kaiming",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        # In a tuple, so that the network is not a submodule: `parameters()`, `state_dict()` and
        # `train()` are then of the heads alone.
        self._network = (features,)
        self.form: Form = form
        self.num_queries = num_queries
        self.window_px = window_px
        self.temperature = temperature
        self.positives = positives
        self.negatives: Negatives = negatives
        self.beta = beta
        self.heads = nn.ModuleDict(
            {tap: _head(channels, init, generator) for tap, channels in features.channels.items()}
        )

    @property
    def features(self) -> Vgg16:
        """The feature network."""
        return self._network[0]

    def forward(
        self, source: torch.Tensor, target: torch.Tensor, *, generator: torch.Generator
    ) -> torch.Tensor:
        """Return the generator's structure loss, averaged over taps; the heads get no gradient.

        Args:
            source: (N, 1, H, W) float32 in [0, 1]; gets no gradient.
            target: The same shape, generated.
            generator: Source of the queries, on the CPU.
        """
        check_same_shape(source, target)
        with torch.no_grad():
            source_taps = self.features(source)
        target_taps = self.features(target)

        def loss_of_tap(tap: str) -> torch.Tensor:
            queries = self._queries(source_taps[tap], generator)
            with torch.no_grad():
                source_map = self._map(tap, source_taps[tap], queries, frozen=True)
            target_map = self._map(tap, target_taps[tap], queries, frozen=True)
            return compare_maps(source_map, target_map, form=self.form)

        return mean_over_taps(source_taps, loss_of_tap)

    def metric_loss(
        self,
        source: torch.Tensor,
        fake: torch.Tensor | None,
        other: torch.Tensor,
        *,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return the heads' own contrastive loss; no image gets a gradient.

        Args:
            source: (N, 1, H, W) float32 in [0, 1].
            fake: The same shape: the generator's image of `source`. Not used, and may be None, with
                positives "augmented_only".
            other: The same shape: images of the other domain. They are flipped along both axes.
            generator: Source of the queries and of the re-toning, on the CPU.

        Raises:
            ValueError: `fake` is None with positives "official", or shapes differ.
        """
        check_same_shape(source, other)
        with torch.no_grad():
            pairs = [(source, jitter_tone(source, generator=generator), other)]
            if self.positives == "official":
                if fake is None:
                    raise ValueError("positives 'official' need the generated image, got None")
                check_same_shape(source, fake)
                pairs = [
                    (source, fake, other),
                    (source, pairs[0][1], jitter_tone(other, generator=generator)),
                ]
            sources, targets, others = (torch.cat(images) for images in zip(*pairs, strict=True))
            roles = [self.features(x) for x in (sources, targets, others.flip(2, 3))]

        def loss_of_tap(tap: str) -> torch.Tensor:
            queries = self._queries(roles[0][tap], generator)
            maps = [self._map(tap, role[tap], queries, frozen=False) for role in roles]
            return contrastive_loss(
                *maps, temperature=self.temperature, negatives=self.negatives, beta=self.beta
            )

        return mean_over_taps(roles[0], loss_of_tap)

    def _queries(self, features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        height, width = features.shape[-2:]
        return draw_queries(height, width, self.num_queries, generator=generator)

    def _map(
        self, tap: str, features: torch.Tensor, queries: torch.Tensor, *, frozen: bool
    ) -> torch.Tensor:
        head = cast("nn.Module", self.heads[tap])
        if frozen:
            fixed = {name: value.detach() for name, value in head.named_parameters()}
            projected = functional_call(head, fixed, (features,))
        else:
            projected = head(features)
        window = window_in_cells(self.window_px, stride=self.features.strides[tap])
        return self_similarity(projected, queries, form=self.form, window_cells=window)


def _head(channels: int, init: HeadInit, generator: torch.Generator | None) -> nn.Sequential:
    narrow = max(32, channels // 4)
    layers = nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, narrow, 1))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            if init == "normal":
                nn.init.normal_(layer.weight, std=PUBLISHED_DEVIATION, generator=generator)
            else:
                nn.init.kaiming_normal_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return layers
