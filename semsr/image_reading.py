"""Settings by which a training read its images: 16-bit window, and rows above a data bar.

Measurements on LR tiles must read them in the same way. Otherwise they use grey levels that the
model never meets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle_format.bundle import load_bundle
from models import load_generator

FULL_WINDOW = (0, 65_535)


@dataclass(frozen=True, kw_only=True)
class ImageReading:
    """Settings of `training.data.images.load_images`.

    Attributes:
        window: 16-bit values that become 0 and 255; None for 0 and 65535.
        max_rows_px: Rows used from the top; None for all.
    """

    window: tuple[int, int] | None
    max_rows_px: int | None


def reading_of_training(training: Mapping[str, Any]) -> ImageReading:
    """Return the reading in a training description; the defaults if it has no recipe.

    Args:
        training: Training description of a checkpoint or manifest.

    Raises:
        ValueError: The recipe's entries are malformed.
    """
    data = (training.get("recipe") or {}).get("data") or {}
    window, rows = data.get("window"), data.get("max_rows_px")
    match window:
        case None:
            pass
        case [int(low), int(high)] if 0 <= low < high <= FULL_WINDOW[1]:
            window = None if (low, high) == FULL_WINDOW else (low, high)
        case _:
            raise ValueError(f"the recipe's data.window is {window!r}; expected two grey levels")
    if rows is not None and not (isinstance(rows, int) and rows >= 1):
        raise ValueError(f"the recipe's data.max_rows_px is {rows!r}; expected a number of rows")
    return ImageReading(window=window, max_rows_px=rows)


def reading_of_checkpoint(path: Path) -> ImageReading:
    """Return how the training of a checkpoint read its images.

    Raises:
        CheckpointError: The file is not a semsr checkpoint.
        ValueError: The recipe in it is malformed.
    """
    return reading_of_training(load_generator(path)[1].training)


def window_of_model(path: Path) -> tuple[int, int]:
    """Return the 16-bit window of a bundle's folder or a checkpoint's file.

    Raises:
        BundleError: The folder is not a bundle.
        CheckpointError: The file is not a semsr checkpoint.
        ValueError: The recipe in the checkpoint is malformed.
    """
    if path.is_file():
        window = reading_of_checkpoint(path).window
    else:
        window = load_bundle(path).manifest.window
    return window or FULL_WINDOW
