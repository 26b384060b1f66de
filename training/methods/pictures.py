"""Sample pictures of the generator's output that a run saves during training."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models import Generator
from training.ground.baselines import bicubic

GAP_PX = 4
NUM_SAMPLES = 3
"""Crops of a picture, one row each."""


@torch.no_grad()
def upscale(generator: Generator, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Enlarge (H, W) uint8 to (s*H, s*W) uint8, clamped and rounded as the service does."""
    device = next(generator.parameters()).device
    image = torch.from_numpy(lr.copy())[None, None].to(device).float() / 255.0
    sr = generator(image)[0, 0]
    return (sr * 255.0).round().clamp(0, 255).byte().cpu().numpy()


def sample_picture(
    generator: Generator, crops: torch.Tensor, *, references: torch.Tensor | None = None
) -> NDArray[np.uint8]:
    """Put bicubic | SR (| HR) side by side, one row for each of the first crops.

    Args:
        generator: Averaged generator.
        crops: (N, 1, c, c) float32 in [0, 1].
        references: (N, 1, s*c, s*c) float32 in [0, 1], aligned, where there are any.
    """
    rows = []
    for number, crop in enumerate(crops[:NUM_SAMPLES]):
        lr = (crop[0] * 255.0).round().byte().cpu().numpy()
        enlarged = bicubic(lr, scale=generator.scale).round().astype(np.uint8)
        pictures = [enlarged, upscale(generator, lr)]
        if references is not None:
            pictures.append((references[number, 0] * 255.0).round().byte().cpu().numpy())
        rows.append(_joined(pictures, axis=1))
    return _joined(rows, axis=0)


def _joined(pictures: Sequence[NDArray[np.uint8]], *, axis: int) -> NDArray[np.uint8]:
    shape = list(pictures[0].shape)
    shape[axis] = GAP_PX
    gap = np.full(shape, 255, dtype=np.uint8)
    parts = [pictures[0]]
    for picture in pictures[1:]:
        parts += [gap, picture]
    return np.concatenate(parts, axis=axis)
