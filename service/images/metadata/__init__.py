"""Metadata that an answer keeps from its request: pixel size, texts, vendor tags.

`ImageMetadata` lies between the decoders and the encoders of `images.codec`; `png` and `tiff`
translate it, `zeiss`, `fei`, `ome` and `imagej` know where each vendor states the pixel size.
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
