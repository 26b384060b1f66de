"""BMP in: uncompressed Windows bitmaps with 1, 4, 8, 24 or 32 bits a pixel, read by NumPy.

Run-length coded files are refused: no SEM software writes them, and their decoders are prone to
bugs.
"""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.ground.errors import InvalidImage, UnsuitableImage
from service.images.codec.grey import check_opaque, grey_from_channels, grey_from_palette
from service.images.codec.image import DecodedImage, DecodeOptions, Pixels, check_size
from service.images.metadata import ImageMetadata, PixelSize

_CORE_HEADER_BYTES = 12
_INFO_HEADER_BYTES = (40, 52, 56, 64, 108, 124)
_RGB, _BITFIELDS = 0, 3
_BGRA_MASKS = (0x00FF0000, 0x0000FF00, 0x000000FF)
_ALPHA_MASK = 0xFF000000
_COMPRESSIONS = {1: "RLE8", 2: "RLE4", 4: "JPEG", 5: "PNG", 6: "BITFIELDS with alpha"}


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    pixel_offset: int
    palette_offset: int
    palette_entry_bytes: int
    palette_entries: int
    x_per_m: int
    y_per_m: int
    has_alpha: bool

    @property
    def stride_bytes(self) -> int:
        return (self.width * self.bits + 31) // 32 * 4


def decode_bmp(body: memoryview, options: DecodeOptions) -> DecodedImage:
    """Decode a BMP to 8-bit grey.

    Raises:
        InvalidImage: Truncated or damaged.
        UnsuitableImage: Compressed, 16 bits a pixel, coloured or transparent.
        ImageTooLarge: More pixels than allowed.
    """
    header = _read_header(body)
    check_size(header.height, header.width, options.max_pixels)
    image_bytes = header.stride_bytes * header.height
    end = header.pixel_offset + image_bytes
    if end > len(body):
        raise InvalidImage(
            f"the BMP is truncated: its pixels take {image_bytes} bytes from byte "
            f"{header.pixel_offset}, the body has {len(body)}"
        )
    if body[end:].tobytes().strip(b"\0"):
        raise InvalidImage(f"{len(body) - end} bytes follow the end of the BMP")
    rows = np.frombuffer(body, np.uint8, image_bytes, header.pixel_offset)
    rows = rows.reshape(header.height, header.stride_bytes)
    if not header.top_down:
        rows = rows[::-1]
    size = PixelSize.from_density(header.x_per_m, header.y_per_m)
    metadata = ImageMetadata() if size is None else ImageMetadata(size, "bmp")
    return DecodedImage(_grey(body, header, rows[: options.max_rows]), metadata)


def _read_header(body: memoryview) -> _Header:
    if len(body) < 26:
        raise InvalidImage(f"the BMP ends after {len(body)} bytes, before its header is complete")
    pixel_offset, header_bytes = struct.unpack_from("<II", body, 10)
    if header_bytes == _CORE_HEADER_BYTES:
        width, height, planes, bits = struct.unpack_from("<HHHH", body, 18)
        compression = x_per_m = y_per_m = colours = 0
    elif header_bytes in _INFO_HEADER_BYTES and len(body) >= 54:
        width, height, planes, bits, compression, _, x_per_m, y_per_m, colours = struct.unpack_from(
            "<iiHHIIiiI", body, 18
        )
    else:
        raise InvalidImage(f"the BMP has a header of {header_bytes} bytes, or ends within it")
    if planes != 1 or width < 0:
        raise InvalidImage(f"the BMP is damaged: {planes} planes, width {width}")
    _check_kind(bits, compression)
    masks_bytes = 12 if compression == _BITFIELDS and header_bytes == 40 else 0
    palette_offset = 14 + header_bytes + masks_bytes
    if pixel_offset < palette_offset:
        raise InvalidImage(f"the BMP's pixels begin at byte {pixel_offset}, within its header")
    return _Header(
        width=width,
        height=abs(height),
        top_down=height < 0,
        bits=bits,
        compression=compression,
        pixel_offset=pixel_offset,
        palette_offset=palette_offset,
        palette_entry_bytes=3 if header_bytes == _CORE_HEADER_BYTES else 4,
        palette_entries=colours or 1 << min(bits, 8),
        x_per_m=x_per_m,
        y_per_m=y_per_m,
        has_alpha=compression == _BITFIELDS and _has_alpha(body, header_bytes),
    )


def _check_kind(bits: int, compression: int) -> None:
    if compression not in {_RGB, _BITFIELDS}:
        name = _COMPRESSIONS.get(compression, str(compression))
        raise UnsuitableImage(f"the BMP is compressed ({name}); expected an uncompressed one")
    if bits not in {1, 4, 8, 24, 32} or (compression == _BITFIELDS and bits != 32):
        raise UnsuitableImage(
            f"the BMP has {bits} bits a pixel (compression {compression}); expected 1, 4, 8, 24 "
            "or 32"
        )


def _has_alpha(body: memoryview, header_bytes: int) -> bool:
    """Check the colour masks and tell whether the fourth byte is alpha."""
    if len(body) < 66:
        raise InvalidImage("the BMP ends within its colour masks")
    masks = struct.unpack_from("<III", body, 54)
    if masks != _BGRA_MASKS:
        raise UnsuitableImage(f"the BMP has colour masks {masks}; expected 8-bit B, G, R")
    if header_bytes < 56 or len(body) < 70:
        return False
    (alpha_mask,) = struct.unpack_from("<I", body, 66)
    if alpha_mask not in {0, _ALPHA_MASK}:
        raise UnsuitableImage(
            f"the BMP has the alpha mask {alpha_mask:08x}; expected 0 or ff000000"
        )
    return alpha_mask == _ALPHA_MASK


def _grey(body: memoryview, header: _Header, rows: npt.NDArray[np.uint8]) -> Pixels:
    if header.bits <= 8:
        return grey_from_palette(_indices(header, rows), _palette(body, header))
    channels = header.bits // 8
    samples = rows[:, : header.width * channels].reshape(len(rows), header.width, channels)
    if header.has_alpha and samples[..., 3].any():
        # Writers without transparency leave the alpha byte at 0 throughout.
        check_opaque(samples[..., 3])
    return grey_from_channels(samples[..., 2::-1])


def _indices(header: _Header, rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if header.bits == 1:
        rows = np.unpackbits(rows, axis=1)
    elif header.bits == 4:
        rows = np.stack((rows >> np.uint8(4), rows & np.uint8(15)), axis=-1).reshape(len(rows), -1)
    return np.ascontiguousarray(rows[:, : header.width])


def _palette(body: memoryview, header: _Header) -> npt.NDArray[np.uint8]:
    """Return the palette as (N, 3), red first."""
    entries, entry_bytes = header.palette_entries, header.palette_entry_bytes
    available = (header.pixel_offset - header.palette_offset) // entry_bytes
    if entries > 1 << header.bits or entries > available:
        raise InvalidImage(
            f"the BMP claims a palette of {entries} colours; there is room for {available}, and "
            f"{header.bits} bits a pixel can tell {1 << header.bits} apart"
        )
    raw = np.frombuffer(body, np.uint8, entries * entry_bytes, header.palette_offset)
    return np.ascontiguousarray(raw.reshape(entries, entry_bytes)[:, 2::-1])
