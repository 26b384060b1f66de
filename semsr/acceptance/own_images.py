"""Reading of an own folder: every image with its stored depth and its 8-bit greys."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semsr.progress import tracked
from training.data.images import FULL_WINDOW, ImageFileError, decode_file, find_images, narrowed
from training.ground.quality import noise_sigma

MIN_LR_SIDE_PX = 64
"""Side of a training crop on the LR grid; HR images need the scale times as much."""

LEVEL_SHARES = (0.001, 0.999)
"""Quantiles of stored values that stand for the used grey range: single hot pixels do not count."""


@dataclass(frozen=True, kw_only=True)
class OwnImage:
    """One image of an own folder.

    Attributes:
        name: Name of the file; of an image among several in a TIFF with its number behind it.
        file: Name of the file.
        side: `lr` or `hr`.
        bits: Depth as stored, 8 or 16.
        levels: Stored values at `LEVEL_SHARES`.
        pixels: (H, W) uint8, after window and rows.
        noise: Deviation of white noise, grey levels.
    """

    name: str
    file: str
    side: str
    bits: int
    levels: tuple[int, int]
    pixels: NDArray[np.uint8]
    noise: float

    def facts(self) -> dict[str, Any]:
        """Return what a report says about the image, JSON-compatible."""
        height, width = self.pixels.shape
        return {
            "name": self.name,
            "file": self.file,
            "bits": self.bits,
            "height_px": height,
            "width_px": width,
            "mean": round(float(self.pixels.mean()), 2),
            "noise": round(self.noise, 2),
        }


def read_own(
    folder: Path,
    side: str,
    *,
    window: tuple[int, int] | None,
    max_rows: int | None,
    limit: int | None = None,
) -> tuple[list[OwnImage], dict[str, str]]:
    """Read every image of a folder.

    Args:
        folder: Folder of image files.
        side: `lr` or `hr`.
        window: 16-bit values that become 0 and 255; None for the whole range.
        max_rows: Rows used from the top; None for all.
        limit: Greatest number of files; None for all.

    Returns:
        The images in the order of their names, and by file the reason why it cannot be used.
    """
    images: list[OwnImage] = []
    unusable: dict[str, str] = {}
    files = find_images(folder.resolve(), root=folder.resolve())[:limit]
    for path in tracked(files, f"reading {side.upper()}", unit="file"):
        if not _is_utf8(path.name):
            unusable[path.name] = "its name is not UTF-8"
            continue
        try:
            decoded = decode_file(path, max_rows_px=max_rows)
        except ImageFileError as error:
            unusable[path.name] = str(error)
            continue
        for number, image in enumerate(decoded):
            stored = image.pixels
            low, high = np.quantile(stored, LEVEL_SHARES, method="nearest")
            pixels = narrowed(image, window or FULL_WINDOW)
            images.append(
                OwnImage(
                    name=path.name if len(decoded) == 1 else f"{path.name}[{number:08d}]",
                    file=path.name,
                    side=side,
                    bits=8 if stored.dtype == np.uint8 else 16,
                    levels=(int(low), int(high)),
                    pixels=pixels,
                    noise=noise_sigma(pixels) if min(pixels.shape) >= 3 else 0.0,
                )
            )
    return images, unusable


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # a surrogate, which stands for a byte of another encoding
        return False
    return True


def png_name(image: OwnImage) -> str:
    """Return the name of an image's 8-bit copy: the image's own where that is one of PNG."""
    name = image.name.replace("[", "_").replace("]", "")
    return name if name.lower().endswith(".png") else f"{name}.png"


def names(images: Sequence[OwnImage]) -> list[str]:
    """Return the names of images."""
    return [image.name for image in images]
