"""Zstandard out: the raw answer in one frame, for clients on a slow link."""

import imagecodecs

from service.images.codec.image import Pixels
from service.images.codec.raw import encode_raw
from service.images.metadata import ImageMetadata

_LEVEL = 1


def encode_zstd(pixels: Pixels, metadata: ImageMetadata) -> bytes:
    """Encode (H, W) uint8 or uint16 as one zstd frame of the raw bytes, its length in the frame."""
    return bytes(imagecodecs.zstd_encode(bytes(encode_raw(pixels, metadata)), level=_LEVEL))
