"""Picture files of the simulator: rounding, PNG and TIFF with their pixel size."""

import zlib
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from training.ground.whole_file import whole_file

INCH_NM = 25.4e6
CENTIMETRE_NM = 1e7


def to_uint8(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Round grey levels to 8 bits and clip them to 0..255."""
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def to_uint16(grey: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Map 0..255 to 0..65535, so that a fixed window of the full range gives the 8-bit picture."""
    return np.rint(grey * 257.0).astype(np.uint16)


def write_png(
    path: Path, picture: NDArray[np.uint8], pixel_nm: float, *, is_small: bool = False
) -> None:
    """Write an 8-bit grey PNG with its pixel size (pHYs), whole or not at all.

    Run lengths and Huffman codes alone are three times as fast as matching, and on noise smaller
    too; `is_small` searches for the smallest file instead, for pictures that are shipped.
    """
    dots_per_inch = INCH_NM / pixel_nm
    options = {"optimize": True} if is_small else {"compress_type": zlib.Z_RLE}
    with whole_file(path) as part:
        Image.fromarray(picture).save(
            part, format="PNG", dpi=(dots_per_inch, dots_per_inch), **options
        )


def write_tiff(path: Path, picture: NDArray[np.uint16], pixel_nm: float) -> None:
    """Write a 16-bit grey TIFF with its pixel size atomically."""
    pixels_per_cm = CENTIMETRE_NM / pixel_nm
    with whole_file(path) as part:
        tifffile.imwrite(
            part,
            picture,
            photometric="minisblack",
            resolution=(pixels_per_cm, pixels_per_cm),
            resolutionunit="CENTIMETER",
            metadata=None,
            software="semsr simulate",
        )
