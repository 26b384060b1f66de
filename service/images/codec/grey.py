"""Grey from images stored as grey with alpha, RGB, RGBA or a palette; colour is refused.

SEM tools save grey images in all these forms. The test is exact: channels must be equal in every
pixel, so that the client must crop a coloured data bar or scale bar.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from service.ground.errors import InvalidImage, UnsuitableImage
from service.images.codec.image import Pixels


def grey_from_channels(samples: npt.NDArray[Any]) -> Pixels:
    """Return the grey channel of an image whose channels agree.

    Args:
        samples: (H, W) grey, or (H, W, C) with C 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; uint8 or
            uint16.

    Returns:
        (H, W), same type, C-contiguous.

    Raises:
        UnsuitableImage: Channels differ, or pixels are transparent.
    """
    if samples.ndim == 2:
        return np.ascontiguousarray(samples)
    channels = samples.shape[2]
    if channels in {2, 4}:
        check_opaque(samples[..., -1])
    if channels >= 3:
        _check_equal(samples[..., :3])
    return np.ascontiguousarray(samples[..., 0])


def grey_from_palette(
    indices: npt.NDArray[np.uint8],
    palette: npt.NDArray[np.uint8],
    alpha: npt.NDArray[np.uint8] | None = None,
) -> Pixels:
    """Return the grey levels of a palette image; only the entries in use need be grey.

    Args:
        indices: (H, W) uint8.
        palette: (N, 3) uint8, red, green, blue.
        alpha: (up to N,) uint8, or None where every entry is opaque.

    Returns:
        (H, W) uint8, C-contiguous.

    Raises:
        InvalidImage: An index lies beyond the palette.
        UnsuitableImage: An entry in use is coloured or transparent.
    """
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    if used[-1] >= len(palette):
        raise InvalidImage(
            f"a pixel has palette index {used[-1]}; the palette has {len(palette)} entries"
        )
    if alpha is not None and (alpha[used[used < len(alpha)]] != 255).any():
        check_opaque(_lookup(alpha, indices, missing=255))
    entries = palette[used]
    if (entries != entries[:, :1]).any():
        _check_equal(np.take(palette, indices, axis=0))
    return np.take(_padded(palette[:, 0], missing=0), indices)


def check_opaque(alpha: npt.NDArray[Any]) -> None:
    """Refuse an image with a transparent pixel.

    Raises:
        UnsuitableImage: The alpha channel is below its full value somewhere.
    """
    full = int(np.iinfo(alpha.dtype).max)
    below = alpha != full
    if below.any():
        row, column = np.unravel_index(int(below.argmax()), below.shape)
        raise UnsuitableImage(
            f"{int(below.sum())} of {below.size} pixels are not opaque (first at row {row}, "
            f"column {column}: alpha {int(alpha[row, column])}); expected no transparency "
            f"(alpha {full} everywhere)"
        )


def _check_equal(rgb: npt.NDArray[Any]) -> None:
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return
    highest = np.maximum(np.maximum(red, green), blue)
    spread = highest - np.minimum(np.minimum(red, green), blue)
    differs = spread != 0
    row, column = np.unravel_index(int(differs.argmax()), differs.shape)
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    first = ", ".join(str(int(value)) for value in rgb[row, column])
    raise UnsuitableImage(
        f"the colour channels differ at {int(differs.sum())} of {differs.size} pixels, within rows "
        f"{rows[0]} to {rows[-1]} and columns {columns[0]} to {columns[-1]} (first at row {row}, "
        f"column {column}: R, G, B = {first}; greatest difference {int(spread.max())}); expected a "
        "grey image, with equal channels"
    )


def _lookup(
    table: npt.NDArray[np.uint8], indices: npt.NDArray[np.uint8], *, missing: int
) -> npt.NDArray[np.uint8]:
    return np.take(_padded(table, missing=missing), indices)


def _padded(table: npt.NDArray[np.uint8], *, missing: int) -> npt.NDArray[np.uint8]:
    full = np.full(256, missing, np.uint8)
    full[: len(table)] = table
    return full
