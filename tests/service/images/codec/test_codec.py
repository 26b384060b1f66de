"""The codecs' way in and out: dispatch, refusals, round trips checked by other decoders."""

import io
import logging
from collections.abc import Callable

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from service.ground.errors import (
    BadRequest,
    InvalidImage,
    NotAcceptable,
    UnsuitableImage,
    UnsupportedMediaType,
)
from service.images.codec import DECODERS, ENCODERS, DecodedImage, decode, dispatch, encode
from service.images.metadata import ImageMetadata, PixelSize

Pixels = npt.NDArray[np.uint8 | np.uint16]

RAW = "application/octet-stream"
NOTHING = ImageMetadata()
PIXELS = hnp.arrays(
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)


def read(body: bytes | memoryview, media_type: str) -> DecodedImage:
    """Decode a body that carries its own shape."""
    return decode(body, media_type, shape=None, dtype=None, max_pixels=10**6)


def read_with_pillow(body: bytes) -> Pixels:
    """Decode with Pillow, 16-bit included."""
    with Image.open(io.BytesIO(body)) as image:
        return np.asarray(image)


def read_raw(body: bytes, like: Pixels) -> Pixels:
    """Read raw little-endian rows."""
    return np.frombuffer(body, like.dtype.newbyteorder("<")).reshape(like.shape)


# Independent readers of each answer type: never the code under test.
INDEPENDENT_READERS: dict[str, list[Callable[[bytes, Pixels], Pixels]]] = {
    "image/png": [
        lambda body, _: read_with_pillow(body),
        lambda body, _: imagecodecs.png_decode(body),
    ],
    "image/tiff": [
        lambda body, _: tifffile.imread(io.BytesIO(body)),
        lambda body, _: read_with_pillow(body),
    ],
    "image/jxl": [lambda body, _: imagecodecs.jpegxl_decode(body)],
    "application/x-npy": [lambda body, _: np.load(io.BytesIO(body), allow_pickle=False)],
    "application/octet-stream": [read_raw],
    "application/zstd": [
        lambda body, like: read_raw(bytes(imagecodecs.zstd_decode(body)), like),
    ],
}


@pytest.mark.parametrize("media_type", ENCODERS)
@settings(deadline=None, max_examples=40)
@given(pixels=PIXELS)
def test_answer_read_by_another_decoder_is_the_image(media_type: str, pixels: Pixels) -> None:
    """Every answer type keeps every pixel, in 8 and 16 bits, for decoders that are not ours."""
    body = bytes(encode(pixels, media_type, NOTHING))

    for independent in INDEPENDENT_READERS[media_type]:
        found = independent(body, pixels)

        assert pixels.dtype == found.dtype
        np.testing.assert_array_equal(pixels, found)


@pytest.mark.parametrize("media_type", sorted(DECODERS.keys() & ENCODERS.keys()))
@settings(deadline=None, max_examples=40)
@given(pixels=PIXELS)
def test_round_trip_keeps_pixels_and_layout(media_type: str, pixels: Pixels) -> None:
    """What is encoded and decoded again is the same image, in rows and in native byte order."""
    body = encode(pixels, media_type, NOTHING)
    found = decode(
        body, media_type, shape=pixels.shape, dtype=str(pixels.dtype), max_pixels=10**6
    ).pixels

    assert pixels.dtype == found.dtype
    assert found.flags.c_contiguous
    assert found.dtype.isnative
    np.testing.assert_array_equal(pixels, found)


@pytest.mark.parametrize("media_type", ENCODERS)
def test_pixels_that_are_not_in_rows_are_encoded_as_they_look(
    media_type: str, rng: np.random.Generator
) -> None:
    """A transposed view, a slice and a foreign byte order give the bytes of a plain copy."""
    pixels = rng.integers(0, 65536, (20, 30), np.uint16)

    for view in (pixels.T, pixels[::-1, ::2], pixels.astype(">u2")):
        plain = np.ascontiguousarray(view.astype(np.uint16))

        assert bytes(encode(plain, media_type, NOTHING)) == bytes(encode(view, media_type, NOTHING))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint32), np.zeros((1, 2, 2), np.uint8)],
)
def test_only_grey_images_are_encoded(pixels: Pixels) -> None:
    """Anything else is a fault of the caller, not of the client."""
    with pytest.raises(ValueError, match="cannot encode"):
        encode(pixels, "image/png", NOTHING)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_body_may_be_any_buffer(wrap: Callable[[bytes], bytes | bytearray | memoryview]) -> None:
    """Bytes, bytearray and memoryview decode alike."""
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)

    for media_type in sorted(DECODERS.keys() & ENCODERS.keys()):
        body = wrap(bytes(encode(pixels, media_type, NOTHING)))
        found = decode(body, media_type, shape=(3, 4), dtype=None, max_pixels=99).pixels

        np.testing.assert_array_equal(pixels, found)


@pytest.mark.parametrize("media_type", [RAW, "application/x-npy", "image/tiff"])
def test_plain_bodies_are_not_copied(media_type: str) -> None:
    """Raw, npy and uncompressed TIFF become views of the body."""
    body = bytearray(encode(np.zeros((8, 8), np.uint16), media_type, NOTHING))
    pixels = decode(body, media_type, shape=(8, 8), dtype="uint16", max_pixels=99).pixels
    body[-2:] = b"\x01\x02"

    assert int(pixels[-1, -1]) == 0x0201


def test_raw_answer_is_the_memory_of_the_pixels() -> None:
    """A raw answer is a view, so that nothing is copied on the fast path."""
    pixels = np.zeros((4, 4), np.uint8)
    answer = encode(pixels, RAW, NOTHING)
    pixels[0, 0] = 7

    assert bytes(answer)[0] == 7


def test_unknown_type_is_unsupported_and_the_message_lists_what_is_read() -> None:
    """415 names the type and the readable ones."""
    with pytest.raises(UnsupportedMediaType, match=r"'image/gif'.*image/png.*image/tiff") as caught:
        read(b"GIF89a", "image/gif")

    assert caught.value.status == 415


def test_unknown_answer_type_is_not_acceptable() -> None:
    """406 names what is offered."""
    with pytest.raises(NotAcceptable, match=r"'image/webp'.*offered.*image/jxl"):
        encode(np.zeros((2, 2), np.uint8), "image/webp", NOTHING)


@pytest.mark.parametrize("media_type", DECODERS)
def test_empty_body_is_invalid_and_says_so(media_type: str) -> None:
    """An empty body is a 400 for every type."""
    with pytest.raises(InvalidImage, match="the body is empty") as caught:
        decode(b"", media_type, shape=(2, 2), dtype=None, max_pixels=99)

    assert caught.value.status == 400


JPEG_START = b"\xff\xd8\xff\xe0\0\x10JFIF"


@pytest.mark.parametrize(
    ("body", "media_type", "noun"),
    [
        (JPEG_START, "image/png", "a JPEG"),
        (b"\x89PNG\r\n\x1a\n", "image/jpeg", "a PNG"),
        (b"\x89PNG\r\n\x1a\n", "image/tiff", "a PNG"),
        (b"II*\0", "image/png", "a TIFF"),
        (b"MM\0+", "image/bmp", "a BigTIFF"),
        (b"BM", "image/png", "a BMP"),
        (b"\x93NUMPY", "image/png", "an npy array"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/png", "a WebP image"),
        (b"GIF89a", "image/png", "a GIF"),
        (b"PK\x03\x04", "application/x-npy", "a zip archive (npz files are zip archives)"),
        (b"\x80\x04\x95", "application/x-npy", "a Python pickle"),
        (b"\x1f\x8b", "image/png", "gzip data"),
        (b"iVBORw0KGgo=", "image/png", "a PNG in base64"),
        (b'{"image": 1}', "image/png", "JSON"),
        (b"<html>", "image/png", "HTML or XML"),
        (b"--boundary", "image/png", "multipart form data"),
    ],
)
def test_wrong_type_is_named_by_what_the_body_begins_like(
    body: bytes, media_type: str, noun: str
) -> None:
    """The message says both the Content-Type and what the body looks like."""
    with pytest.raises(InvalidImage) as caught:
        read(body, media_type)

    assert caught.value.detail.startswith(
        f"Content-Type is {media_type} but the body begins like {noun}"
    )


def test_unknown_bytes_are_shown_in_the_message() -> None:
    """Where no signature fits, the message shows the first bytes."""
    with pytest.raises(InvalidImage, match="begins with the bytes 00 01 02 03 04 05 06 07"):
        read(bytes(range(64)), "image/png")


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("too deep"), ValueError("a\nb\0")])
def test_whatever_a_library_raises_becomes_invalid_image(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No exception of a decoder library leaves the codec; its text stays on one printable line."""

    def explode(*_: object) -> DecodedImage:
        raise error

    monkeypatch.setitem(dispatch.DECODERS, "image/bmp", explode)
    with pytest.raises(InvalidImage) as caught:
        read(b"BM", "image/bmp")

    assert caught.value.detail.startswith("the body does not decode as image/bmp: ")
    assert caught.value.detail.isprintable()
    assert caught.value.__cause__ is error


def test_service_errors_of_a_decoder_pass_unchanged() -> None:
    """A refusal keeps its own status."""
    with pytest.raises(UnsuitableImage):
        decode(b"123", RAW, shape=(2, 2), dtype=None, max_pixels=99)


@pytest.mark.parametrize("media_type", ["image/jxl", "application/zstd"])
def test_answer_only_types_are_not_read(media_type: str) -> None:
    """JPEG XL and zstd are answers, not requests."""
    with pytest.raises(UnsupportedMediaType):
        read(b"\xff\x0a", media_type)


def test_raw_without_shape_is_a_bad_request() -> None:
    """Raw bytes need X-Tile-Shape."""
    with pytest.raises(BadRequest, match="X-Tile-Shape"):
        read(b"1234", RAW)


def test_decoding_and_encoding_write_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Libraries stay silent for any input."""
    caplog.set_level(logging.DEBUG)
    pixels = np.zeros((9, 9), np.uint8)
    for media_type in sorted(DECODERS.keys() & ENCODERS.keys()):
        body = bytes(encode(pixels, media_type, ImageMetadata(PixelSize(4, 4), "request")))
        decode(body, media_type, shape=(9, 9), dtype=None, max_pixels=99)
        with pytest.raises((InvalidImage, UnsuitableImage)):
            decode(body[:-1], media_type, shape=(9, 9), dtype=None, max_pixels=99)

    assert caplog.records == []
