"""Pictures of the tiles that differ most: LR, both answers, and their difference."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.evaluation.folders.benchmark import Picture
from training.evaluation.report.illustrations import FOLDER
from training.evaluation.report.pictures import repeated, side_by_side
from training.ground.whole_file import whole_file

SIDE_PX = 480
"""Side of the shown window in HR pixels."""

GAIN = 8
"""Gain of the difference's colours: 32 grey levels are the full colour."""


def draw_difference(
    path: Path, lr: Picture, answers: Sequence[Picture], names: Sequence[str]
) -> None:
    """Draw the window in which the answers differ most.

    Args:
        path: PNG to write.
        lr: (h, w) uint8.
        answers: (s*h, s*w) uint8 of the first and of the second model.
        names: Names of the models.
    """
    first, second = answers
    scale = first.shape[0] // lr.shape[0]
    rows, columns = most_different(first, second, scale=scale)
    shown = {
        "LR": repeated(lr, scale=scale)[rows, columns],
        names[0]: first[rows, columns],
        names[1]: second[rows, columns],
        f"red: {names[1]} brighter, blue: darker": coloured(
            first[rows, columns], second[rows, columns]
        ),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        side_by_side(shown).save(part, format="PNG")


def most_different(first: Picture, second: Picture, *, scale: int) -> tuple[slice, slice]:
    """Return the rows and columns of the window with the greatest mean difference.

    The answers are averaged to LR pixels before, so that grain does not choose the window.
    """
    height, width = (side // scale for side in first.shape)
    difference = (second.astype(np.float32) - first).reshape(height, scale, width, scale)
    coarse = np.abs(difference.mean(axis=(1, 3)))
    side = min(SIDE_PX // scale, height, width)
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = coarse.cumsum(axis=0).cumsum(axis=1)
    windows = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(np.argmax(windows), windows.shape)
    return (
        slice(int(top) * scale, (int(top) + side) * scale),
        slice(int(left) * scale, (int(left) + side) * scale),
    )


def coloured(first: Picture, second: Picture) -> Picture:
    """Return the signed difference (H, W, 3) uint8: white where equal, red where brighter."""
    amount = np.clip(GAIN * (second.astype(np.int16) - first), -255, 255)
    red = 255 - np.clip(-amount, 0, 255)
    blue = 255 - np.clip(amount, 0, 255)
    return np.stack([red, np.minimum(red, blue), blue], axis=-1).astype(np.uint8)


def picture_file(number: int) -> str:
    """Return the file of a picture below the report's folder."""
    return f"{FOLDER}/different_{number:02d}.png"
