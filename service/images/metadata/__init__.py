"""Metadata that an answer keeps from its request: pixel size, texts, vendor tags.

The decoders of `images.codec` fill an `ImageMetadata`, and the encoders write it. `png` and `tiff`
translate it; `zeiss`, `fei`, `ome` and `imagej` read where each vendor states the pixel size.
"""

from service.images.metadata.image_metadata import ImageMetadata, PngChunk, TiffText
from service.images.metadata.pixel_size import PixelSize, format_pixel_size, parse_pixel_size

__all__ = [
    "ImageMetadata",
    "PixelSize",
    "PngChunk",
    "TiffText",
    "format_pixel_size",
    "parse_pixel_size",
]
