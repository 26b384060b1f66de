"""Makes the trust record from clean LR tiles: noise, residual limit, and training domains."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bundle_format.trust_record import DOMAIN_FEATURES, DomainRecord, NoiseRecord, TrustRecord
from export.residual import domain_features, explain, residual_score
from models import Generator

Tile = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

CLEAN_SHARE = 0.99
"""Share of the clean tiles of each kind that lie below the residual's limit."""

DOMAIN_SHARE = 0.95
"""Share of the training's tiles within the limit, each left out of the statistics in turn."""

SHRINKAGE = 0.3
"""Shrinkage of the covariance towards its diagonal: tens of tiles say little about correlations."""

MIN_DEVIATION = 0.02
"""Least deviation of a feature: equal tiles do not make everything else infinitely far."""

MIN_BASE = 1 / 12
"""Variance of rounding to grey levels."""

MIN_TILES = 4


class TrustError(Exception):
    """There are too few tiles to measure trust limits."""


@dataclass(frozen=True, kw_only=True)
class TrustTiles:
    """Tiles without known defects, and their noise.

    Attributes:
        noise_base: Variance of the training tiles' noise at black, grey levels squared.
        noise_slope: Growth of that variance with grey.
        domains: LR tiles like those of the training, (H, W) uint8: one sequence for each tool.
        clean: Further kinds of tiles that must not alarm, each a sequence.
    """

    noise_base: float
    noise_slope: float
    domains: Sequence[Sequence[Tile]]
    clean: Sequence[Sequence[Tile]] = ()


def make_trust_record(generator: Generator, tiles: TrustTiles) -> TrustRecord:
    """Measure the limits of a generator's trust flags on clean tiles.

    The residual's limit allows about 1 % of false alarms on each kind of tiles: it is the largest
    of their 99 % quantiles. With fewer than 100 tiles of a kind, that is their largest score.

    Raises:
        TrustError: There are fewer than `MIN_TILES` tiles of a domain, or no domain.
    """
    least = min((len(domain) for domain in tiles.domains), default=0)
    if least < MIN_TILES:
        raise TrustError(
            f"trust needs at least {MIN_TILES} tiles of each of the training's domains, got {least}"
        )
    noise = NoiseRecord(
        base=_rounded(max(tiles.noise_base, MIN_BASE)), slope=_rounded(tiles.noise_slope)
    )
    judge = _Judge(generator, noise)
    judged = [[judge(tile) for tile in domain] for domain in tiles.domains]
    scores = [[score for score, _ in domain] for domain in judged]
    scores += [[judge(tile)[0] for tile in kind] for kind in tiles.clean if kind]
    return TrustRecord(
        noise=noise,
        residual_limit=_rounded(
            max(float(np.quantile(kind, CLEAN_SHARE, method="higher")) for kind in scores)
        ),
        clean_tiles=sum(len(kind) for kind in scores),
        domains=tuple(
            _domain_record(domain, np.stack([features for _, features in found]))
            for domain, found in zip(tiles.domains, judged, strict=True)
        ),
    )


def _domain_record(tiles: Sequence[Tile], features: Floats) -> DomainRecord:
    mean, precision, limit = domain_of(features)
    digest = hashlib.sha256()
    for tile in tiles:
        digest.update(np.ascontiguousarray(tile).tobytes())
    return DomainRecord(
        features=DOMAIN_FEATURES,
        mean=tuple(_rounded(value) for value in mean),
        precision=tuple(tuple(_rounded(value) for value in row) for row in precision),
        limit=_rounded(limit),
        tiles=len(tiles),
        tiles_sha256=digest.hexdigest(),
    )


def domain_of(features: Floats) -> tuple[Floats, Floats, float]:
    """Return mean and inverse covariance of tiles' features, and the limit of the distance.

    Args:
        features: (N, K), N at least 4.
    """
    left_out = []
    for number, row in enumerate(features):
        mean, precision = _statistics(np.delete(features, number, axis=0))
        left_out.append(distance(row, mean, precision))
    limit = float(np.quantile(left_out, DOMAIN_SHARE, method="nearest"))
    return *_statistics(features), limit


def distance(features: Floats, mean: Floats, precision: Floats) -> float:
    """Return the Mahalanobis distance of one tile's features (K,), divided by the root of K."""
    away = features - mean
    return math.sqrt(max(float(away @ precision @ away), 0.0) / len(mean))


def _statistics(features: Floats) -> tuple[Floats, Floats]:
    """Return mean and inverse covariance, shrunk and regularised."""
    covariance = np.cov(features, rowvar=False)
    diagonal = np.diag(np.maximum(np.diag(covariance), MIN_DEVIATION**2))
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * diagonal
    regular = shrunk + MIN_DEVIATION**2 * np.eye(len(diagonal))
    return features.mean(axis=0), np.linalg.inv(regular).astype(np.float64)


class _Judge:
    """Computes the residual score and the domain features of a tile."""

    def __init__(self, generator: Generator, noise: NoiseRecord) -> None:
        self._network = generator.merged().eval()
        self._scale = generator.scale
        self._noise = noise

    def __call__(self, tile: Tile) -> tuple[float, Floats]:
        with torch.inference_mode():
            lr = torch.from_numpy(np.ascontiguousarray(tile))[None, None].float() / 255.0
            sr = self._network(lr).clamp(0.0, 1.0)
            explanation = explain(
                lr,
                torch.nn.functional.avg_pool2d(sr, self._scale),
                noise_base=self._noise.base,
                noise_slope=self._noise.slope,
            )
            score = residual_score(explanation.residual)
            features = domain_features(lr, explanation)
        return float(score), features[0].double().numpy()


def _rounded(value: float) -> float:
    """Round to six significant digits, so that every processor gives the same manifest."""
    return float(f"{value:.6g}")
