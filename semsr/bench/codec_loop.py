"""Processor time of a codec for one tile in and its picture out, without engine and HTTP."""

import time

from bundle_format.bundle import Bundle
from service.images.codec import decode, encode
from service.images.metadata import ImageMetadata

PNG = "image/png"
_LIMIT_PX = 1 << 30


def png_core_s(bundle: Bundle, seconds: float) -> float:
    """Decode the bundle's golden tile and encode its picture as PNG again and again.

    Args:
        bundle: Whose tile and picture.
        seconds: Length.

    Returns:
        Processor seconds for both, of one tile.
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
    """The bundle's golden tile as a PNG."""
    return bytes(encode(bundle.golden().lr[0, 0], PNG, ImageMetadata()))
