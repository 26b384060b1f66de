"""Small files with metadata, written by other libraries, and what the service makes of them."""

import io
import struct
import zlib
from fractions import Fraction
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from service.images.codec import decode, encode
from service.images.metadata import ImageMetadata

PNG, TIFF, JPEG, BMP = "image/png", "image/tiff", "image/jpeg", "image/bmp"


LR = np.arange(12, dtype=np.uint8).reshape(3, 4)


SR = LR.repeat(4, 0).repeat(4, 1)


ZEISS = (
    "1\r\n0\r\n0\r\n5.582e-009\r\n0\r\n0\r\n1\r\n"
    "DP_DETECTOR_CHANNEL\r\nSignal A = InLens\r\n"
    "AP_WD\r\nWD =  5.6 mm\r\n"
    "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4.000 nm\r\n"
    "AP_PIXEL_SIZE\r\nPixel Size = 5.582 nm\r\n"
    "AP_WIDTH\r\nWidth = 4.096 \xb5m\r\n"
    "AP_MAG\r\nMag =  20.00 K X\r\n"
    "DP_IMAGE_STORE\r\nStore resolution = 1024 * 768\r\n"
).encode("latin-1")


FEI = (
    b"[User]\r\nDate=10/06/2026\r\nUserText=PixelWidth=9 is only text here\r\n\r\n"
    b"[EScan]\r\nPixelWidth=9.9e-009\r\nHorFieldsize=4.096e-006\r\n"
    b"[Scan]\r\nInternalScan=true\r\nDwelltime=1e-006\r\n"
    b"PixelWidth=4e-009\r\nPixelHeight=5e-009\r\nHorFieldsize=4.096e-006\r\n"
    b"[Image]\r\nResolutionX=1024\r\nResolutionY=884\r\nDigitalContrast=1\r\n"
    b"[PrivateFei]\r\nDatabarHeight=60\r\n"
)


PHENOM = (
    b'<?xml version="1.0"?><FeiImage><databarHeight>60</databarHeight>'
    b'<pixelWidth unit="um">0.004</pixelWidth><pixelHeight unit="um">0.005</pixelHeight></FeiImage>'
)


def tiff(**options: Any) -> bytes:
    """Write the small image as TIFF with tifffile."""
    buffer = io.BytesIO()
    options.setdefault("metadata", None)
    tifffile.imwrite(buffer, LR, **options)
    return buffer.getvalue()


def tiff_with(code: int, text: bytes, *, kind: str = "s", **options: Any) -> bytes:
    """Write the small image with one private tag."""
    return tiff(extratags=[(code, kind, len(text), text, True)], **options)


def pillow(kind: str, **options: Any) -> bytes:
    """Write the small image with Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(LR).save(buffer, kind, **options)
    return buffer.getvalue()


def read(body: bytes | memoryview, media_type: str) -> ImageMetadata:
    """Return the metadata of a file."""
    return decode(body, media_type, shape=None, dtype=None, max_pixels=10**6).metadata


def answered(
    body: bytes, media_type: str, answer: str = TIFF, sr: np.ndarray[Any, Any] = SR
) -> bytes:
    """Return the answer to a file, upscaled four times."""
    return bytes(encode(sr, answer, read(body, media_type).scaled(4)))


def tags_of(body: bytes) -> dict[int, Any]:
    """Return the tags of a TIFF as tifffile reads them."""
    with tifffile.TiffFile(io.BytesIO(body)) as file:
        return {tag.code: tag.value for tag in file.pages.first.tags}


def chunk(kind: bytes, data: bytes) -> bytes:
    """Frame a PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes) -> bytes:
    """Return the small image as PNG with chunks after its header."""
    body = pillow("PNG")
    return body[:33] + b"".join(chunks) + body[33:]


def nm_from_tiff(body: bytes) -> tuple[float, float]:
    """Return a TIFF's pixel size from its resolution tags, in nanometres."""
    tags = tags_of(body)
    per_m = {2: 1 / 0.0254, 3: 100}[int(tags[296])]
    x, y = (float(Fraction(*tags[code])) * per_m for code in (282, 283))
    return round(1e9 / x, 6), round(1e9 / y, 6)
