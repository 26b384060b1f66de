"""One reference for all tiles: how a network that needs a reference is looked at in training."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models import Generator
from models.blocks import plain_copy
from models.lir import LirStyle
from training.ground.baselines import bicubic
from training.methods.pictures import upscale


class FixedReference(Generator):
    """A `LirStyle` with one HR image as the reference of every tile.

    The style code is computed once, when this is made. It is not in the registry, so that no
    checkpoint can hold it: it can be neither exported nor served.

    Args:
        network: Trained network; it is used, not copied.
        reference: (h, w) uint8, at least as large as every output.
    """

    def __init__(self, network: LirStyle, reference: NDArray[np.uint8]) -> None:
        super().__init__()
        self.network = network
        self.scale = network.scale
        self.receptive_radius_px = None
        self.hyper_parameters = network.hyper_parameters
        self.reference = reference
        device = next(network.parameters()).device
        with torch.no_grad():
            grey = torch.from_numpy(reference.copy())[None, None].to(device).float() / 255.0
            style = network.style(grey)
        self.register_buffer("style", style, persistent=False)
        self.style: torch.Tensor

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Enlarge (N, 1, H, W) float32 in [0, 1] to (N, 1, s*H, s*W) in [0, 1]."""
        return self.network.decode(lr, self.style)

    def merged(self) -> nn.Module:
        """Return a copy in eval mode."""
        return plain_copy(self)


def copy_score(
    sr: NDArray[np.uint8], *, reference: NDArray[np.uint8], source: NDArray[np.uint8]
) -> float:
    """Return how much more an output correlates with its reference than with its input.

    Args:
        sr: Output, (H, W).
        reference: Reference, at least that large; its upper left corner counts.
        source: Enlarged input, (H, W).

    Returns:
        corr(sr, reference) - corr(sr, source), from -2 to 2; above 0 the output is rather a copy of
        the reference. The correlation with a constant image counts as 0.
    """
    height, width = sr.shape
    return _correlation(sr, reference[:height, :width]) - _correlation(sr, source)


def mean_copy_score(network: FixedReference, tiles: Iterable[NDArray[np.uint8]]) -> float:
    """Return the mean `copy_score` over LR tiles (H, W)."""
    scores = []
    for tile in tiles:
        source = bicubic(tile, scale=network.scale).round().astype(np.uint8)
        sr = upscale(network, tile)
        scores.append(copy_score(sr, reference=network.reference, source=source))
    return float(np.mean(scores))


def _correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    a, b = (image.astype(np.float64) - image.mean() for image in (one, other))
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / norm) if norm > 0 else 0.0
