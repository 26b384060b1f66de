"""Chooses the decoder and the encoder by media type; all callers use these functions.

Every error of a decoder library becomes `InvalidImage` here, with the type and the reason; the
service errors of the decoders themselves pass through.
"""

from collections.abc import Callable

from service.ground.errors import (
    InvalidImage,
    NotAcceptable,
    ServiceError,
    UnsuitableImage,
    UnsupportedMediaType,
)
from service.images.codec.bmp_decode import decode_bmp
from service.images.codec.compressed_encode import encode_jxl, encode_zstd
from service.images.codec.image import DecodedImage, DecodeOptions, Pixels, native_rows
from service.images.codec.jpeg_decode import decode_jpeg
from service.images.codec.npy import decode_npy, encode_npy
from service.images.codec.png_decode import decode_png
from service.images.codec.png_encode import encode_png
from service.images.codec.raw import decode_raw, encode_raw
from service.images.codec.sniffing import (
    BMP,
    JPEG,
    JXL,
    NPY,
    PNG,
    RAW,
    SIGNATURES,
    TIFF,
    ZSTD,
    describe_start,
)
from service.images.codec.tiff_decode import decode_page, decode_tiff
from service.images.codec.tiff_encode import encode_tiff
from service.images.codec.tiff_pages import iterate_pages, page_places, read_page
from service.images.metadata import ImageMetadata

DECODERS: dict[str, Callable[[memoryview, DecodeOptions], DecodedImage]] = {
    PNG: decode_png,
    TIFF: decode_tiff,
    JPEG: decode_jpeg,
    BMP: decode_bmp,
    NPY: decode_npy,
    RAW: decode_raw,
}
ENCODERS: dict[str, Callable[[Pixels, ImageMetadata], bytes | memoryview]] = {
    PNG: encode_png,
    TIFF: encode_tiff,
    JXL: encode_jxl,
    NPY: encode_npy,
    RAW: encode_raw,
    ZSTD: encode_zstd,
}

MAX_PAGES = 100_000
"""Maximum number of images of a TIFF in one request."""


def decode(
    body: bytes | bytearray | memoryview,
    media_type: str,
    *,
    shape: tuple[int, int] | None,
    dtype: str | None,
    max_pixels: int,
    max_rows: int | None = None,
) -> DecodedImage:
    """Decode a request body to grey pixels and metadata.

    Args:
        body: Whole body.
        media_type: One of `DECODERS`, as `media_types.readable_type` returns it.
        shape: (H, W) of a raw body; ignored for types that carry their own.
        dtype: `uint8` or `uint16` (little-endian) of a raw body; None means uint8.
        max_pixels: Maximum number of pixels.
        max_rows: Number of rows returned from the top, or None for all; see `DecodeOptions`.

    Returns:
        (H, W) uint8 or uint16, C-contiguous, native byte order. For raw, npy and plain TIFF it is
        a view of the body: read-only where the body is, and valid only as long as it.

    Raises:
        UnsupportedMediaType: No decoder of that type.
        BadRequest: A raw body without a shape, or with an unknown dtype.
        InvalidImage: The bytes do not decode.
        UnsuitableImage: Colour, several images, another sample type, no pixels, wrong raw length.
        ImageTooLarge: More than `max_pixels`.
    """
    decoder = DECODERS.get(media_type)
    if decoder is None:
        raise UnsupportedMediaType(
            f"Content-Type is {media_type[:80]!r}; expected one of {', '.join(DECODERS)}"
        )
    view = _checked_start(body, media_type)
    options = DecodeOptions(shape, dtype, max_pixels, max_rows)
    try:
        return decoder(view, options)
    except ServiceError:
        raise
    except Exception as error:
        raise _undecodable(media_type, error) from error


def decode_images(
    body: bytes | bytearray | memoryview,
    media_type: str,
    *,
    max_pixels: int,
    max_images: int,
    max_rows: int | None = None,
) -> list[DecodedImage]:
    """Decode every image of a file: the pages and planes of a TIFF, the one image of other types.

    Args:
        body: Whole file, of a type that carries its own shape.
        media_type: One of `DECODERS` but for raw pixels.
        max_pixels: Maximum number of pixels of one image.
        max_images: Maximum number of images.
        max_rows: Rows returned from the top of each, or None for all; see `DecodeOptions`.

    Returns:
        At least one image; see `decode`.

    Raises:
        ServiceError: See `decode`, for any of the images; several images of a TIFF are allowed.
    """
    if media_type != TIFF:
        image = decode(
            body, media_type, shape=None, dtype=None, max_pixels=max_pixels, max_rows=max_rows
        )
        return [image]
    view = _checked_start(body, media_type)
    options = DecodeOptions(None, None, max_pixels, max_rows)
    try:
        images = [decode_page(page, options) for page in iterate_pages(view, most=max_images)]
    except ServiceError:
        raise
    except Exception as error:
        raise _undecodable(media_type, error) from error
    if not images:
        raise UnsuitableImage("the TIFF holds only thumbnails or masks; expected an image")
    return images


def decode_one(
    body: bytes | bytearray | memoryview,
    media_type: str,
    *,
    page: int,
    shape: tuple[int, int] | None,
    dtype: str | None,
    max_pixels: int,
) -> tuple[DecodedImage, int]:
    """Decode one image of a file that may hold several.

    Args:
        body: Whole file.
        media_type: One of `DECODERS`.
        page: Index of the image from 0; other types than TIFF hold one.
        shape: (H, W) of a raw body; ignored for types that carry their own.
        dtype: Data type of a raw body; see `decode`.
        max_pixels: Maximum number of pixels.

    Returns:
        The image, and the number of images in the file.

    Raises:
        ServiceError: See `decode`; several images of a TIFF are allowed.
        UnsuitableImage: The file has no image of this index.
    """
    if media_type != TIFF:
        _check_page(page, 1)
        image = decode(body, media_type, shape=shape, dtype=dtype, max_pixels=max_pixels)
        return image, 1
    view = _checked_start(body, media_type)
    try:
        places = page_places(view, most=MAX_PAGES)
        _check_page(page, len(places))
        options = DecodeOptions(None, None, max_pixels, None)
        return decode_page(read_page(view, places[page]), options), len(places)
    except ServiceError:
        raise
    except Exception as error:
        raise _undecodable(media_type, error) from error


def _check_page(page: int, count: int) -> None:
    if not count:
        raise UnsuitableImage("the TIFF holds only thumbnails or masks; expected an image")
    if page >= count:
        holds = (
            "one image; expected 0" if count == 1 else f"{count} images; expected 0 to {count - 1}"
        )
        raise UnsuitableImage(f"page is {page} and the file holds {holds}")


def encode(pixels: Pixels, media_type: str, metadata: ImageMetadata) -> bytes | memoryview:
    """Encode an answer.

    Args:
        pixels: (H, W) uint8 or uint16.
        media_type: One of `ENCODERS`, as `media_types.choose_answer` returns it.
        metadata: Already scaled. PNG and TIFF hold it; the other types have no place for it.

    Returns:
        The file. For raw answers a view of the pixels' own memory.

    Raises:
        NotAcceptable: No encoder of that type.
        ValueError: The pixels are not a grey image, which is a fault of the caller.
    """
    encoder = ENCODERS.get(media_type)
    if encoder is None:
        raise NotAcceptable(
            f"no answer of type {media_type[:80]!r}; offered: {', '.join(ENCODERS)}"
        )
    if pixels.ndim != 2 or pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
        raise ValueError(
            f"cannot encode {pixels.shape} {pixels.dtype}; expected (H, W) uint8 or 16"
        )
    return encoder(native_rows(pixels), metadata)


def _checked_start(body: bytes | bytearray | memoryview, media_type: str) -> memoryview:
    """Return the body as bytes; raises if its first bytes are not those of its type."""
    view = memoryview(body).cast("B")
    if not len(view):
        raise InvalidImage(f"the body is empty; expected {media_type}")
    if media_type != RAW and not bytes(view[:8]).startswith(SIGNATURES[media_type]):
        raise InvalidImage(f"Content-Type is {media_type} but the body {describe_start(view)}")
    return view


def _undecodable(media_type: str, error: Exception) -> InvalidImage:
    return InvalidImage(f"the body does not decode as {media_type}: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return an error's text on one short, printable line."""
    text = " ".join(str(error).split())[:200]
    printable = "".join(character for character in text if character.isprintable())
    return printable or type(error).__name__
