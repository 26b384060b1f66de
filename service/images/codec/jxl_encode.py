"""JPEG XL out: lossless, at the lowest effort, which is nearly as small and by far the fastest."""

import imagecodecs

from service.images.codec.image import Pixels
from service.images.metadata import ImageMetadata


def encode_jxl(pixels: Pixels, metadata: ImageMetadata) -> bytes:
    """Encode (H, W) uint8 or uint16 as a bare, lossless JPEG XL codestream without metadata.

    One thread: many requests are encoded side by side already.
    """
    del metadata
    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=1, numthreads=1))
