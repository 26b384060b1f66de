"""JPEG in: what Pillow writes, and what must be refused before libjpeg sees it."""

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.ground.errors import ImageTooLarge, InvalidImage, UnsuitableImage
from service.images.codec import DecodedImage, decode


def written(pixels: npt.NDArray[np.uint8], mode: str | None = None, **options: Any) -> bytes:
    """Write a JPEG with Pillow."""
    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (picture if mode is None else picture.convert(mode)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def read(body: bytes, max_pixels: int = 10**6) -> DecodedImage:
    """Decode a JPEG."""
    return decode(body, "image/jpeg", shape=None, dtype=None, max_pixels=max_pixels)


def with_frame(body: bytes, *, height: int, width: int, marker: int | None = None) -> bytes:
    """Return the file with another size, or another kind of frame, in its header."""
    at = next(
        body.find(bytes([0xFF, code])) for code in (0xC0, 0xC1, 0xC2) if bytes([0xFF, code]) in body
    )
    frame = bytearray(body)
    frame[at + 5 : at + 9] = struct.pack(">HH", height, width)
    if marker is not None:
        frame[at + 1] = marker
    return bytes(frame)


def scan(first: int, last: int, *, high: int, low: int, component: int = 1) -> bytes:
    """Return the header of a scan of one component."""
    return b"\xff\xda" + struct.pack(
        ">HBBBBBB", 8, 1, component, 0x00, first, last, high << 4 | low
    )


NOISE = np.random.default_rng(3).integers(0, 256, (40, 56), np.uint8)
JPEG = written(NOISE)


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    quality=st.integers(1, 100),
    progressive=st.booleans(),
    colour=st.booleans(),
    restart=st.sampled_from([0, 1]),
)
def test_grey_levels_are_those_of_pillow(
    size: tuple[int, int], quality: int, progressive: bool, colour: bool, restart: int
) -> None:
    """Baseline and progressive, grey and grey stored as colour, with restart markers."""
    pixels = NOISE[: size[0], : size[1]]
    body = written(
        pixels, "RGB" if colour else None, quality=quality, progressive=progressive,
        restart_marker_rows=restart,
    )  # fmt: skip
    with Image.open(io.BytesIO(body)) as picture:
        expected = np.asarray(picture.convert("L"))

    found = read(body).pixels

    assert found.dtype == np.uint8
    np.testing.assert_array_equal(expected, found)


def test_exif_orientation_is_ignored_and_exif_never_parsed() -> None:
    """A SEM image has no orientation: pixels stay where they are, for any EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    body = written(NOISE, exif=exif.tobytes())
    broken = body.replace(b"Exif\0\0", b"Exif\0\xff")

    np.testing.assert_array_equal(read(JPEG).pixels, read(body).pixels)
    np.testing.assert_array_equal(read(JPEG).pixels, read(broken).pixels)


def test_colour_is_refused() -> None:
    """A coloured data bar makes a colour image, and the message says where it begins."""
    pixels = np.repeat(NOISE[..., np.newaxis], 3, -1)
    pixels[32:, :, 0] = 255
    with pytest.raises(UnsuitableImage, match=r"within rows 32 to 39") as caught:
        read(written(pixels, quality=95, subsampling=0))

    assert caught.value.status == 422


def test_cmyk_and_rare_frames_are_unsuitable() -> None:
    """CMYK, 12 bits, lossless and arithmetic coding are named."""
    with pytest.raises(UnsuitableImage, match="4 components"):
        read(written(np.repeat(NOISE[..., np.newaxis], 4, -1), "CMYK"))
    with pytest.raises(UnsuitableImage, match=r"lossless \(SOF3\)"):
        read(with_frame(JPEG, height=40, width=56, marker=0xC3))
    with pytest.raises(UnsuitableImage, match=r"arithmetic \(SOF9\)"):
        read(with_frame(JPEG, height=40, width=56, marker=0xC9))
    twelve = bytearray(JPEG)
    twelve[JPEG.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(UnsuitableImage, match="12 bits"):
        read(bytes(twelve))


def test_every_truncation_is_refused() -> None:
    """The decoder would paint the missing part grey; no prefix of a file is an image."""
    for length in range(len(JPEG)):
        with pytest.raises(InvalidImage):
            read(JPEG[:length])


def test_image_data_must_be_enough_for_the_size() -> None:
    """A small file that claims many pixels is refused before memory is taken."""
    with pytest.raises(InvalidImage, match="too few for the 900×1000 pixels"):
        read(with_frame(JPEG, height=900, width=1000))
    with pytest.raises(InvalidImage, match="too few"):
        read(with_frame(written(NOISE, progressive=True), height=900, width=1000))


def test_plainest_image_is_not_taken_for_too_short() -> None:
    """An optimised, black, low-quality image has the fewest bytes an honest writer makes."""
    for progressive in (False, True):
        for colour in (None, "RGB"):
            black = np.zeros((504, 1000), np.uint8)
            body = written(black, colour, quality=1, optimize=True, progressive=progressive)

            assert read(body).pixels.shape == (504, 1000)


def test_size_is_checked_before_anything_is_decoded() -> None:
    """Claims beyond the limit are refused from the frame header; so is an empty image."""
    with pytest.raises(ImageTooLarge, match="65535×65535"):
        read(with_frame(JPEG, height=65535, width=65535))
    with pytest.raises(UnsuitableImage, match="0×56"):
        read(with_frame(JPEG, height=0, width=56))


def test_endless_scans_are_refused() -> None:
    """Each scan of a progressive file walks the whole image; 64 are enough for anybody."""
    body = written(NOISE, progressive=True)
    tables = JPEG[JPEG.index(b"\xff\xc4") : JPEG.index(b"\xff\xda")]
    scans = [scan(0, 0, high=0, low=1), scan(0, 0, high=1, low=0)]
    scans += [scan(k, k, high=0, low=0) for k in range(1, 64)]

    with pytest.raises(InvalidImage, match="more than 64 scans"):
        read(body[: body.index(b"\xff\xda")] + tables + b"".join(scans) + b"\xff\xd9")


@pytest.mark.parametrize(
    ("tail", "error", "reason"),
    [
        (JPEG, UnsuitableImage, "more than one image"),
        (b"PK\x03\x04", InvalidImage, "4 bytes follow the end"),
    ],
)
def test_what_follows_the_image_is_refused(
    tail: bytes, error: type[Exception], reason: str
) -> None:
    """A second image or another file behind the first; zeros are padding."""
    assert read(JPEG + bytes(100)).pixels.shape == (40, 56)
    with pytest.raises(error, match=reason):
        read(JPEG + tail)


AFTER_SOI = 2
FRAME_AT = JPEG.index(b"\xff\xc0")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (JPEG[:AFTER_SOI] + b"\xff\xd9" + JPEG[AFTER_SOI:], "marker d9"),
        (JPEG[:AFTER_SOI] + b"\xff\xe1\0\x01" + JPEG[AFTER_SOI:], "marker e1"),
        (JPEG[:AFTER_SOI] + b"\xff\xdf\0\x03x" + JPEG[AFTER_SOI:], "marker df"),
        (JPEG[:AFTER_SOI] + b"\xff\xf0\0\x03x" + JPEG[AFTER_SOI:], "marker f0"),
        (JPEG[:AFTER_SOI] + b"\xff\xe1\xff\xff" + JPEG[AFTER_SOI:], "needs 65535 bytes"),
        (JPEG[:AFTER_SOI] + b"\xff\xe1\0\x02x" + JPEG[AFTER_SOI:], "no marker at byte 6"),
        (JPEG[:AFTER_SOI] + b"\xff\xfe\0\x02" * 5000 + JPEG[AFTER_SOI:], "more than 4096 segments"),
        (JPEG[: JPEG.index(b"\xff\xc0")] + JPEG[JPEG.index(b"\xff\xda") :], "before its frame"),
        (JPEG[:-2] + b"\xff\xc0" + JPEG[-2:], "marker c0"),
        (JPEG[:-2] + b"\xff\xfe\0\x02" * 5000 + JPEG[-2:], "4096 segments between its scans"),
        (JPEG[:AFTER_SOI] + b"\xff" * 10**6 + JPEG[AFTER_SOI:], "no marker at byte 2"),
        (JPEG.replace(b"\xff\xc4", JPEG[FRAME_AT : FRAME_AT + 13] + b"\xff\xc4"), "second frame"),
        (JPEG[:FRAME_AT] + b"\xff\xc0\0\x04\x08\0" + JPEG[FRAME_AT:], "too short"),
        (
            JPEG[:FRAME_AT] + b"\xff\xc0\0\x0a" + JPEG[FRAME_AT + 4 : FRAME_AT + 9] + b"\x01\0\0",
            "wrong length",
        ),
        (JPEG.replace(b"\xff\xdb", b"\xff\xec"), "Quantization table 0x00 was not defined"),
        (JPEG.replace(b"\xff\xc4", b"\xff\xec"), "Huffman table is not defined"),
        (JPEG[:-2] + b"\xff\xdc\0\x04\0\x27" + JPEG[-2:], "40 rows in its frame header and 39 in"),
    ],
)
def test_broken_structure_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    """Each fault is found by the walk, or by libjpeg, and named."""
    with pytest.raises(InvalidImage) as caught:
        read(body)

    assert reason in caught.value.detail


def test_fill_bytes_before_markers_pass() -> None:
    """The standard allows any number of FF before a marker."""
    body = JPEG[:2] + b"\xff\xff\xff" + JPEG[2:]

    np.testing.assert_array_equal(read(JPEG).pixels, read(body).pixels)
