"""Arguments and results of every decoder, and the size check before any decoding."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from service.ground.errors import ImageTooLarge, UnsuitableImage
from service.images.metadata import ImageMetadata

# (H, W), uint8 or uint16, native byte order, C-contiguous; may be read-only.
Pixels = npt.NDArray[np.uint8 | np.uint16]


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded request body.

    Attributes:
        pixels: (H, W) uint8 or uint16, C-contiguous, native byte order. Read-only where it is a
            view of the body (raw and npy).
        metadata: Metadata of the file.
        white_is_zero: The pixels are uint16 of which 0 is white, as the file stores them:
            `window.to_uint8` inverts them within the window. Never set with uint8, which is
            inverted here.
    """

    pixels: Pixels
    metadata: ImageMetadata
    white_is_zero: bool = False


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Options of a decoder, next to the body.

    Attributes:
        shape: (H, W) of a raw body; other formats carry their own.
        dtype: `uint8` or `uint16` of a raw body, or None for uint8.
        max_pixels: Maximum H × W.
        max_rows: Rows returned from the top, or None for all. Those below may be coloured or
            transparent, but damage there is still refused.
    """

    shape: tuple[int, int] | None
    dtype: str | None
    max_pixels: int
    max_rows: int | None = None


def native_rows(image: npt.NDArray[np.generic]) -> Pixels:
    """Return the image C-contiguous, aligned, in native byte order: unchanged if it is.

    The check here takes an eighth of the time of `np.require`, and runs twice for a raw tile.
    """
    flags = image.flags
    if flags.c_contiguous and flags.aligned and image.dtype.isnative:
        return cast("Pixels", image)
    return cast("Pixels", np.require(image, image.dtype.newbyteorder("="), ["C", "A"]))


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuse an image without pixels or with too many, before memory is taken for it.

    Raises:
        UnsuitableImage: Height or width is 0.
        ImageTooLarge: More than `max_pixels` pixels.
    """
    if height < 1 or width < 1:
        raise UnsuitableImage(
            f"the image is {height}×{width} pixels (height × width); expected at least 1×1"
        )
    if height * width > max_pixels:
        raise ImageTooLarge(
            f"the image is {height}×{width} pixels (height × width), {height * width} in all; "
            f"expected at most {max_pixels} (SEMSR_MAX_PIXELS)"
        )
