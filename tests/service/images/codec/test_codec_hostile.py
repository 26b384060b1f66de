"""Hostile bodies of every type: cut, bent and exploding ones, and how little they may cost."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.ground.errors import ImageTooLarge, InvalidImage, ServiceError, UnsuitableImage
from service.images.codec import decode, encode

MAX_PIXELS = 16_777_216
GREY = np.random.default_rng(11).integers(0, 256, (7, 9), np.uint8)
DEEP = GREY.astype(np.uint16) * 251
COLOUR = np.repeat(GREY[..., np.newaxis], 3, -1)


def by_pillow(pixels: np.ndarray, kind: str, mode: str | None = None, **options: Any) -> bytes:
    """Write a file with Pillow."""
    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def by_tifffile(pixels: np.ndarray, **options: Any) -> bytes:
    """Write a TIFF with tifffile."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def by_numpy(pixels: np.ndarray) -> bytes:
    """Write an npy file."""
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


CORPUS = [
    ("image/png", by_pillow(GREY, "PNG")),
    ("image/png", by_pillow(DEEP, "PNG")),
    ("image/png", by_pillow(COLOUR, "PNG", dpi=(300, 300))),
    ("image/png", by_pillow(GREY, "PNG", "P")),
    ("image/jpeg", by_pillow(GREY, "JPEG")),
    ("image/jpeg", by_pillow(COLOUR, "JPEG", progressive=True)),
    ("image/bmp", by_pillow(GREY, "BMP")),
    ("image/bmp", by_pillow(COLOUR, "BMP")),
    ("image/tiff", by_tifffile(GREY)),
    ("image/tiff", by_tifffile(DEEP, byteorder=">", compression="lzw")),
    ("image/tiff", by_tifffile(COLOUR, photometric="rgb", compression="zlib", predictor=True)),
    ("image/tiff", by_tifffile(GREY, compression="packbits", rowsperstrip=2)),
    ("image/tiff", by_tifffile(np.pad(DEEP, 20), compression="zstd", tile=(16, 16))),
    ("image/tiff", by_tifffile(GREY, bigtiff=True, ome=True)),
    ("image/tiff", by_tifffile(DEEP, imagej=True, resolution=(9, 9), metadata={"unit": "um"})),
    ("application/x-npy", by_numpy(DEEP)),
]


def read(body: bytes, media_type: str) -> np.ndarray:
    """Decode a body that carries its own shape."""
    return decode(body, media_type, shape=None, dtype=None, max_pixels=MAX_PIXELS).pixels


def refusal_of(body: bytes, media_type: str) -> ServiceError | None:
    """Do all that a request would do, short of the engine; return the refusal, if any."""
    try:
        image = decode(body, media_type, shape=None, dtype=None, max_pixels=10**5)
    except ServiceError as error:
        return error
    for answer in ("image/png", "image/tiff"):
        encode(image.pixels, answer, image.metadata.scaled(4))
    return None


@pytest.mark.parametrize(("media_type", "body"), CORPUS)
def test_every_prefix_is_refused_or_complete(media_type: str, body: bytes) -> None:
    """A file cut anywhere is refused, unless all of the image had already come."""
    whole = read(body, media_type)
    for length in range(len(body)):
        try:
            pixels = read(body[:length], media_type)
        except (InvalidImage, UnsuitableImage):
            continue

        np.testing.assert_array_equal(whole, pixels)


@pytest.mark.parametrize(("media_type", "body"), CORPUS)
@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_bent_bytes_raise_nothing_but_service_errors(
    media_type: str, body: bytes, data: st.DataObject
) -> None:
    """Any few bytes of a file may change: the answer is an image or a 4xx, never another error."""
    bent = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        bent[data.draw(st.integers(0, len(bent) - 1))] = data.draw(st.integers(0, 255))
    if media_type == "image/png":
        repair_png(bent)
    refusal = refusal_of(bytes(bent), media_type)

    assert refusal is None or 400 <= refusal.status < 500
    assert refusal is None or refusal.detail.isprintable()


@pytest.mark.parametrize("media_type", sorted({media_type for media_type, _ in CORPUS}))
@settings(deadline=None)
@given(tail=st.binary(max_size=300))
def test_noise_behind_the_right_beginning_raises_nothing_else(media_type: str, tail: bytes) -> None:
    """The signature of a type followed by anything."""
    signature = next(body for kind, body in CORPUS if kind == media_type)[:8]
    with pytest.raises((InvalidImage, UnsuitableImage, ImageTooLarge)):
        read(signature + tail, media_type)


def repair_png(body: bytearray) -> None:
    """Make the CRCs fit again, so that bent bytes reach what lies behind them."""
    position = 8
    while position + 12 <= len(body):
        end = position + 8 + struct.unpack_from(">I", body, position)[0]
        if end + 4 > len(body):
            return
        struct.pack_into(">I", body, end, zlib.crc32(bytes(body[position + 4 : end])))
        position = end + 4


def chunk(kind: bytes, data: bytes) -> bytes:
    """Frame a PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(height: int, width: int, packed: bytes, *extras: bytes) -> bytes:
    """Lay out a PNG by hand."""
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rest = (chunk(b"IDAT", packed), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + ihdr + b"".join(extras) + b"".join(rest)


def tiff(height: int, width: int, compression: int, packed: bytes) -> bytes:
    """Lay out a TIFF of one strip by hand."""
    tags = [
        (256, width), (257, height), (258, 8), (259, compression), (262, 1), (273, 122), (277, 1),
        (278, height), (279, len(packed)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + packed


def exploding_zlib() -> bytes:
    """Return 256 KiB that inflate to 256 MiB."""
    packer = zlib.compressobj(9)
    return b"".join([packer.compress(bytes(1 << 20)) for _ in range(256)] + [packer.flush()])


ZLIB_BOMB = exploding_zlib()
ZSTD_BOMB = bytes(imagecodecs.zstd_encode(bytes(1 << 27), level=1))
LZW_BOMB = bytes(imagecodecs.lzw_encode(bytes(1 << 22)))
PACKBITS_BOMB = bytes(imagecodecs.packbits_encode(bytes(1 << 22)))
SMALL_JPEG = by_pillow(np.zeros((64, 64), np.uint8), "JPEG", progressive=True)
FRAME_AT = SMALL_JPEG.index(b"\xff\xc2")
BMP_HEAD = b"BM" + bytes(8) + struct.pack("<IIiiHHIIiiII", 1078, 40, 10**5, 10**5, 1, 8, *[0] * 6)


def npy(header: str) -> bytes:
    """Lay out an npy file without data."""
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode()


# Name, type, body, error, and MiB that Python and NumPy may take at most in addition to the body.
BOMBS: list[tuple[str, str, Callable[[], bytes], type[ServiceError], float]] = [
    ("claims 100000x100000", "image/png", partial(png, 10**5, 10**5, b"x"), ImageTooLarge, 0.1),
    ("claims 4000x4000", "image/png", partial(png, 4000, 4000, b"x"), InvalidImage, 0.1),
    ("IDAT explodes", "image/png", partial(png, 2, 2, ZLIB_BOMB), InvalidImage, 2),
    (
        "a million chunks",
        "image/png",
        lambda: png(2, 2, b"", *[chunk(b"IDAT", b"")] * 10**6),
        InvalidImage,
        4,
    ),
    ("deflate explodes", "image/tiff", partial(tiff, 99, 99, 8, ZLIB_BOMB), InvalidImage, 2),
    ("zstd explodes", "image/tiff", partial(tiff, 99, 99, 50000, ZSTD_BOMB), InvalidImage, 0.2),
    ("LZW explodes", "image/tiff", partial(tiff, 99, 99, 5, LZW_BOMB), InvalidImage, 0.2),
    (
        "PackBits explodes",
        "image/tiff",
        partial(tiff, 99, 99, 32773, PACKBITS_BOMB),
        InvalidImage,
        1,
    ),
    ("claims 2^31 rows", "image/tiff", partial(tiff, 2**31, 9, 1, b"x"), ImageTooLarge, 0.1),
    ("claims 4000x4000", "image/tiff", partial(tiff, 4000, 4000, 1, b"x"), InvalidImage, 0.1),
    (
        "claims 65535x65535",
        "image/jpeg",
        lambda: SMALL_JPEG[: FRAME_AT + 5] + b"\xff\xff\xff\xff" + SMALL_JPEG[FRAME_AT + 9 :],
        ImageTooLarge,
        0.1,
    ),
    (
        "claims 3900x3900",
        "image/jpeg",
        lambda: SMALL_JPEG[: FRAME_AT + 5] + b"\x0f\x3c\x0f\x3c" + SMALL_JPEG[FRAME_AT + 9 :],
        InvalidImage,
        0.1,
    ),
    (
        "thousands of scans",
        "image/jpeg",
        lambda: (
            SMALL_JPEG[:-2] + SMALL_JPEG[SMALL_JPEG.rindex(b"\xff\xda") : -2] * 9000 + b"\xff\xd9"
        ),
        InvalidImage,
        1,
    ),
    ("claims 100000x100000", "image/bmp", lambda: BMP_HEAD + bytes(1024), ImageTooLarge, 0.1),
    (
        "claims 100000x100000",
        "application/x-npy",
        lambda: npy("{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000), }"),
        ImageTooLarge,
        0.1,
    ),
    ("nested header", "application/x-npy", lambda: npy("(" * 4000), InvalidImage, 0.1),
]


@pytest.mark.parametrize(
    ("media_type", "make", "error", "most_mib"),
    [bomb[1:] for bomb in BOMBS],
    ids=[f"{media_type}: {name}" for name, media_type, *_ in BOMBS],
)
def test_bombs_are_refused_with_little_memory(
    media_type: str, make: Callable[[], bytes], error: type[ServiceError], most_mib: float
) -> None:
    """A body that claims or becomes far more than it is costs next to nothing."""
    body = make()
    tracemalloc.start()
    try:
        with pytest.raises(error):
            read(body, media_type)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < most_mib * 2**20


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_exploding_texts_are_never_inflated(kind: bytes) -> None:
    """A good image with an exploding text is a good image; the text is left out as too long."""
    heads = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}
    body = png(1, 2, zlib.compress(b"\0\1\2"), chunk(kind, heads[kind] + ZLIB_BOMB))
    tracemalloc.start()
    try:
        image = decode(body, "image/png", shape=None, dtype=None, max_pixels=MAX_PIXELS)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < 2**18
    assert image.pixels.tolist() == [[1, 2]]
    assert image.metadata.png_chunks == ()
    assert len(image.metadata.dropped) == (0 if kind == b"iCCP" else 1)


def test_a_good_request_after_all_bombs_is_answered() -> None:
    """Nothing is left behind in the libraries: the next image decodes."""
    for _, media_type, make, _, _ in BOMBS:
        with pytest.raises(ServiceError):
            read(make(), media_type)
    for media_type, body in CORPUS:
        assert read(body, media_type).size > 0
