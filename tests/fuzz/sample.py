"""One valid file of the corpus: its bytes, and the greys that any reader must find in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8 | np.uint16]

# Odd sizes, so that rows of 1, 2 and 4 bits end within a byte; larger than a block of a JPEG.
HEIGHT, WIDTH = 19, 27


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A file that is whole, by a writer that knows nothing of our reader.

    Attributes:
        name: Format and kind, such as `png/grey-4-adam7`.
        media_type: What it is.
        body: The file.
        grey: (H, W) uint8 or uint16 as a request must read it; None where it is refused for what
            it is, or where the greys are those of a lossy decoder.
        refused: HTTP status of a file that is valid and deliberately not read, else 0.
    """

    name: str
    media_type: str
    body: bytes
    grey: Grey | None = None
    refused: int = 0


def noise(*, levels: int = 256, height: int = HEIGHT, width: int = WIDTH) -> Grey:
    """Draw greys of `levels` levels with structure in them, so that predictors and LZW have work.

    Returns:
        (height, width), uint8, or uint16 above 256 levels.
    """
    rows, columns = np.mgrid[:height, :width]
    rng = np.random.default_rng(levels)
    smooth = (np.sin(rows / 3.0) + np.cos(columns / 4.0) + 2.0) / 4.0 * levels
    drawn = np.clip(smooth + rng.normal(0.0, levels / 12, smooth.shape), 0, levels - 1)
    return drawn.astype(np.uint8 if levels <= 256 else np.uint16)


GREY = noise()
DEEP = noise(levels=65536)
