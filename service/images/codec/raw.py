"""Raw pixels, in and out: plain rows of uint8 or little-endian uint16.

The fast path of the service: a body becomes a view, an answer is the engine's own memory.
"""

import re
import sys

import numpy as np

from service.ground.errors import BadRequest, UnsuitableImage
from service.images.codec.image import DecodedImage, DecodeOptions, Pixels, check_size, native_rows
from service.images.codec.sniffing import describe_start, media_type_of, sniff
from service.images.metadata import ImageMetadata

_SHAPE = re.compile(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*", re.ASCII)
_DTYPES = {"uint8": np.dtype("u1"), "uint16": np.dtype("<u2")}


def parse_shape(header: str) -> tuple[int, int]:
    """Read the header `X-Tile-Shape: H,W`.

    Returns:
        Height and width in pixels; the decoder checks them.

    Raises:
        BadRequest: It is not two whole numbers.
    """
    match = _SHAPE.fullmatch(header)
    if match is None:
        raise BadRequest(
            f"X-Tile-Shape is {header[:60]!r}; expected height and width in pixels, as in 240,240"
        )
    return int(match[1]), int(match[2])


def parse_dtype(header: str) -> str:
    """Read the header `X-Tile-Dtype`: `uint8` or `uint16`.

    Raises:
        BadRequest: It is neither.
    """
    name = header.strip().lower()
    if name not in _DTYPES:
        raise BadRequest(f"X-Tile-Dtype is {header[:60]!r}; expected uint8 or uint16")
    return name


def shapeless(start: memoryview) -> BadRequest:
    """Explain a missing shape, both for a file of the wrong type and for raw pixels.

    Args:
        start: Body, or its first bytes.

    Returns:
        The error, to be raised.
    """
    media_type = media_type_of(start)
    if media_type is not None:
        return BadRequest(
            f"the body {describe_start(start)} and is sent as application/octet-stream; send it "
            f"with Content-Type: {media_type}"
        )
    return BadRequest(
        f"the body {describe_start(start)} and is sent as application/octet-stream, which means "
        "raw grey pixels and needs the header X-Tile-Shape with height and width in pixels, as "
        "in 240,240. A file that this service reads is a PNG, TIFF, JPEG, BMP or npy, sent with "
        "its own Content-Type"
    )


def decode_raw(body: memoryview, options: DecodeOptions) -> DecodedImage:
    """Return a read-only view of the body as (H, W) pixels.

    Raises:
        BadRequest: No shape was given, or an unknown dtype.
        UnsuitableImage: The length does not fit the shape, or the shape has a zero.
        ImageTooLarge: More pixels than allowed.
    """
    if options.shape is None:
        raise shapeless(body)
    name = parse_dtype(options.dtype or "uint8")
    height, width = options.shape
    check_size(height, width, options.max_pixels)
    dtype = _DTYPES[name]
    expected_bytes = height * width * dtype.itemsize
    if len(body) != expected_bytes:
        noun = sniff(body)
        hint = "" if noun is None else f"; it begins like {noun}, which needs its own Content-Type"
        raise UnsuitableImage(
            f"the body is {len(body)} bytes; expected {expected_bytes} for {height}×{width} pixels "
            f"(X-Tile-Shape, height × width) of {name}{hint}"
        )
    image = np.frombuffer(body, dtype).reshape(height, width)
    if options.max_rows is not None:
        image = image[: options.max_rows]
    # Copies only on a big-endian machine, or where the body is a view at an odd address.
    return DecodedImage(native_rows(image), ImageMetadata())


def encode_raw(pixels: Pixels, metadata: ImageMetadata) -> memoryview:
    """Return the pixels' own memory, row by row, uint16 little-endian; metadata are left out."""
    del metadata
    if sys.byteorder == "big":
        pixels = pixels.astype(pixels.dtype.newbyteorder("<"))
    return np.ascontiguousarray(pixels).data.cast("B")
