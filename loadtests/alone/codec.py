"""Processor time to decode a tile and encode its picture, without engine and HTTP."""

import time

from bundle_format.bundle import Bundle
from loadtests.tile_request import PNG
from service.images.codec import decode, encode
from service.images.metadata import ImageMetadata

_LIMIT_PX = 1 << 30


def png_core_s(bundle: Bundle, seconds: float) -> float:
    """Decode the bundle's golden tile and encode its picture as PNG, repeatedly.

    Args:
        bundle: Bundle with the tile and its picture.
        seconds: Length of the measurement.

    Returns:
        Processor seconds of one tile, decoding and encoding together.
    """
    sr = bundle.golden().sr[0, 0]
    body = png_tile(bundle)
    end_s = time.monotonic() + seconds
    began_s = time.process_time()
    count = 0
    while count == 0 or time.monotonic() < end_s:
        image = decode(body, PNG, shape=None, dtype=None, max_pixels=_LIMIT_PX)
        encode(sr, PNG, image.metadata)
        count += 1
    return (time.process_time() - began_s) / count


def png_tile(bundle: Bundle) -> bytes:
    """Return the bundle's golden tile as a PNG."""
    return bytes(encode(bundle.golden().lr[0, 0], PNG, ImageMetadata()))
