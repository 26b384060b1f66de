"""JPEG XL and Zstandard out: what imagecodecs writes with one call."""

import imagecodecs

from service.images.codec.image import Pixels
from service.images.codec.raw import encode_raw
from service.images.metadata import ImageMetadata

_ZSTD_LEVEL = 1


def encode_jxl(pixels: Pixels, metadata: ImageMetadata) -> bytes:
    """Encode (H, W) uint8 or uint16 as a bare, lossless JPEG XL codestream without metadata.

    The lowest effort gives nearly as small a file and is by far the fastest. One thread: many
    requests are encoded concurrently already.
    """
    del metadata
    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=1, numthreads=1))


def encode_zstd(pixels: Pixels, metadata: ImageMetadata) -> bytes:
    """Encode (H, W) uint8 or uint16 as one zstd frame of the raw bytes, its length in the frame.

    For clients on a slow network.
    """
    return bytes(imagecodecs.zstd_encode(bytes(encode_raw(pixels, metadata)), level=_ZSTD_LEVEL))
