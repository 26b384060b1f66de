"""The golden tile's files: PNG, so that they are small and people can look at them.

Formats 3 to 5 hold npy files. A PNG is decoded only after its head has stated the expected size, so
that a small file cannot fill the memory; nothing is unpickled.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GOLDEN_16_BIT = "golden/sr_16_bit.png"
"""File with a part of the reference's 16-bit output, in bundles that have a graph for it."""

SAMPLE_PX = 8
"""Distance of the pixels in that file: whole 16-bit outputs hardly compress, and the 8-bit file has
every pixel."""

LAST_NPY_VERSION = 5
"""Last bundle format whose golden tile is stored as npy files."""


class GoldenError(Exception):
    """A golden tile's file is unreadable or does not fit the manifest."""


@dataclass(frozen=True)
class Golden:
    """A tile and the reference's output for it.

    Attributes:
        lr: (N, 1, H, W) uint8.
        sr: (N, 1, scale*H, scale*W) uint8.
    """

    lr: npt.NDArray[np.uint8]
    sr: npt.NDArray[np.uint8]


def golden_names(format_version: int) -> tuple[str, str]:
    """Return the files' names in a bundle of one format: the tile, the reference's output."""
    suffix = "npy" if format_version <= LAST_NPY_VERSION else "png"
    return f"golden/lr.{suffix}", f"golden/sr.{suffix}"


def golden_files(lr: npt.NDArray[np.uint8], sr: npt.NDArray[np.uint8]) -> dict[str, bytes]:
    """Encode a golden tile for a new bundle.

    Args:
        lr: (1, 1, H, W) uint8.
        sr: (1, 1, scale*H, scale*W) uint8.

    Returns:
        Content by file name.

    Raises:
        ValueError: An array is not uint8 of such a shape.
    """
    lr_name, sr_name = golden_names(LAST_NPY_VERSION + 1)
    for array in (lr, sr):
        if array.dtype != np.uint8:
            raise ValueError(f"golden tile is {array.dtype} {array.shape}, expected uint8")
    return {lr_name: _png(lr), sr_name: _png(sr)}


def golden_16_bit_file(sr: npt.NDArray[np.uint16]) -> dict[str, bytes]:
    """Encode every eighth pixel of every eighth row of the golden tile's 16-bit output.

    Args:
        sr: (1, 1, scale*H, scale*W) uint16.

    Returns:
        Content by file name.
    """
    return {GOLDEN_16_BIT: _png(sr[:, :, ::SAMPLE_PX, ::SAMPLE_PX])}


def read_golden_16_bit(
    read: Callable[[str], bytes], *, tile: tuple[int, int], scale: int
) -> npt.NDArray[np.uint16]:
    """Read what `golden_16_bit_file` wrote.

    Returns:
        (1, 1, h, w) uint16, h and w being an eighth of the output's height and width, rounded up.

    Raises:
        GoldenError: The file is unreadable, or does not fit tile and scale.
    """
    height, width = (-(-scale * side // SAMPLE_PX) for side in tile)
    pixels = _read_png(GOLDEN_16_BIT, read(GOLDEN_16_BIT), (height, width), mode="I;16")
    return pixels.astype(np.uint16)


def read_golden(
    read: Callable[[str], bytes], *, format_version: int, tile: tuple[int, int], scale: int
) -> Golden:
    """Read a golden tile.

    Args:
        read: Function from a file's name to its verified content.
        format_version: Version of the bundle's format.
        tile: Height and width of an LR tile.
        scale: Factor between the sides of LR and SR.

    Raises:
        GoldenError: A file is unreadable, or does not fit tile and scale.
    """
    height, width = tile
    lr_name, sr_name = golden_names(format_version)
    decode = _read_npy if format_version <= LAST_NPY_VERSION else _read_png
    lr = decode(lr_name, read(lr_name), (height, width))
    sr = decode(sr_name, read(sr_name), (scale * height, scale * width))
    if len(lr) != len(sr):
        raise GoldenError(f"{lr_name} has {len(lr)} tiles and {sr_name} {len(sr)}")
    return Golden(lr=lr, sr=sr)


def _png(array: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    if array.ndim != 4 or array.shape[:2] != (1, 1):
        raise ValueError(
            f"golden tile is {array.dtype} {array.shape}, expected (1, 1, height, width)"
        )
    from PIL import Image  # here: the settings' errors should not wait for it

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array[0, 0])).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _read_png(
    name: str, content: bytes, shape: tuple[int, int], mode: str = "L"
) -> npt.NDArray[np.uint8]:
    """Decode a grey PNG of a known size to (1, 1, H, W)."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            found = f"{image.height}x{image.width} px of mode {image.mode}"
            if (image.height, image.width) != shape or image.mode != mode:
                raise GoldenError(
                    f"{name} has {found}, expected {shape[0]}x{shape[1]} px of mode {mode}"
                )
            return np.array(image)[None, None]
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise GoldenError(f"{name} is not a readable PNG file: {error}") from error


def _read_npy(name: str, content: bytes, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Read an array (N, 1, H, W) of formats 3 to 5; uncompressed, so never larger than its file."""
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise GoldenError(f"{name} is not a readable npy file: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 4:
        raise GoldenError(
            f"{name} is {getattr(array, 'dtype', 'an archive')}, expected uint8 of 4 dimensions "
            "(N, 1, H, W)"
        )
    if array.shape[1:] != (1, *shape):
        raise GoldenError(f"{name} is {array.shape}, expected (N, 1, {shape[0]}, {shape[1]})")
    return array
