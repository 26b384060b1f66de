"""JPEG in: a walk over the whole structure, then libjpeg-turbo with its warnings as errors.

libjpeg only warns of data that ends early, of lost restart intervals and of surplus bytes, and then
invents pixels; simplejpeg's `strict` turns its warnings into errors. `jpeg_structure` finds the
rest. EXIF orientation is ignored: SEM images have none, and rotating would break coordinates. Read:
8-bit baseline, extended and progressive, Huffman coded, grey or YCbCr/RGB with equal channels.
"""

# simplejpeg has types, and no py.typed that says so.
# pyright: reportMissingTypeStubs=false

import simplejpeg

from service.ground.errors import InvalidImage
from service.images.codec.grey import grey_from_channels
from service.images.codec.image import DecodedImage, DecodeOptions
from service.images.codec.jpeg_structure import read_structure
from service.images.metadata import ImageMetadata


def decode_jpeg(body: memoryview, options: DecodeOptions) -> DecodedImage:
    """Decode a JPEG to grey.

    Raises:
        InvalidImage: Truncated, damaged, not complete, or not a JPEG this service reads.
        UnsuitableImage: 12-bit, CMYK, coloured, or more than one image.
        ImageTooLarge: More pixels than allowed.
    """
    structure = read_structure(body, options.max_pixels)
    colours = "GRAY" if len(structure.frame.components) == 1 else "RGB"
    try:
        samples = simplejpeg.decode_jpeg(b"".join(structure.parts), colours, strict=True)
    except ValueError as error:
        raise InvalidImage(f"the JPEG does not decode: {error}") from error
    size = structure.pixel_size
    metadata = ImageMetadata() if size is None else ImageMetadata(size, "jfif")
    return DecodedImage(grey_from_channels(samples[: options.max_rows]), metadata)
