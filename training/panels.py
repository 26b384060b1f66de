"""Pictures for people: LR | bicubic | SR | HR side by side, as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.baselines import bicubic
from training.evaluate import EvaluationPair, Upscaler

GAP_PX = 8


def write_panels(
    upscaler: Upscaler,
    sets: Mapping[str, Sequence[EvaluationPair]],
    *,
    folder: Path,
    scale: int,
) -> list[Path]:
    """Write one picture for each pair of each set.

    Args:
        upscaler: (N, 1, H, W) uint8 to (N, 1, s*H, s*W) uint8.
        sets: As `training.evaluate.load_evaluation_sets` returns them.
        folder: Folder to write `<set>_<name>.png` to; created.
        scale: s.

    Returns:
        The paths written, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for set_name, pairs in sets.items():
        for pair in pairs:
            path = folder / f"{set_name}_{pair.name}.png"
            sr = upscaler(pair.lr[None, None])[0, 0]
            Image.fromarray(panel(pair.lr, sr, hr=pair.hr, scale=scale)).save(path)
            paths.append(path)
    return paths


def panel(
    lr: NDArray[np.uint8], sr: NDArray[np.uint8], *, hr: NDArray[np.uint8] | None, scale: int
) -> NDArray[np.uint8]:
    """Place LR (pixels repeated), bicubic, SR and, where known, HR side by side.

    Returns:
        (s*H, W') uint8 with white gaps between the pictures; grey levels as they are.
    """
    repeated = lr.repeat(scale, axis=0).repeat(scale, axis=1)
    pictures = [repeated, bicubic(lr, scale=scale).round().astype(np.uint8), sr]
    if hr is not None:
        pictures.append(hr)
    gap = np.full((sr.shape[0], GAP_PX), 255, dtype=np.uint8)
    parts = [pictures[0]]
    for picture in pictures[1:]:
        parts += [gap, picture]
    return np.concatenate(parts, axis=1)
