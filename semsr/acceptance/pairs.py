"""Pairs with a known truth: given by the fab, and made of held-out HR images."""

from pathlib import Path

import numpy as np
import torch

from training.config.degradation import DegradationConfig
from training.data.degradation.synthetic_lr import degrade, draw_degradation
from training.data.images import FULL_WINDOW, load_images
from training.evaluation.folders.benchmark import Picture
from training.evaluation.folders.real_folders import RealPair, pairs_by_name

MAX_SIDE_LR_PX = 240
GRID_PX = 8


def make_pairs(
    hr: dict[str, Picture],
    ranges: DegradationConfig,
    *,
    scale: int,
    seed: int,
    max_side_lr_px: int = MAX_SIDE_LR_PX,
) -> list[RealPair]:
    """Degrade the middles of HR images as estimated; the same arguments give the same pairs.

    Args:
        hr: Name to (H, W) uint8.
        ranges: Ranges of the degradation.
        scale: HR pixels per LR pixel.
        seed: Seed of degradation and noise.
        max_side_lr_px: Greatest side of a pair on the LR grid.
    """
    pairs = []
    for number, (name, image) in enumerate(hr.items()):
        height, width = (
            min(side // scale, max_side_lr_px) // GRID_PX * GRID_PX * scale for side in image.shape
        )
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        fine = np.ascontiguousarray(image[top : top + height, left : left + width])
        generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + number)
        drawn = draw_degradation(ranges, count=1, generator=generator)
        picture = torch.from_numpy(fine)[None, None].float() / 255.0
        coarse = degrade(picture, drawn, scale=scale, generator=generator)
        lr = (coarse[0, 0] * 255.0).round().byte().numpy()
        pairs.append(RealPair(name=Path(name).stem, lr=lr, hr=fine))
    return pairs


def read_pairs(
    folders: tuple[Path, Path], *, scale: int, window: tuple[int, int] | None
) -> list[RealPair]:
    """Read aligned pairs of two folders, or of one folder that holds both sides.

    Raises:
        ImageFileError: Files are not usable images: all of them by name.
        ValueError: A picture has no partner, or HR has another size than `scale` times LR's.
    """
    coarse, fine = (
        load_images(folder.resolve(), root=folder.resolve(), window=window or FULL_WINDOW)
        for folder in folders
    )
    return pairs_by_name(
        {image.name: image.pixels for image in coarse},
        {image.name: image.pixels for image in fine},
        scale=scale,
    )
