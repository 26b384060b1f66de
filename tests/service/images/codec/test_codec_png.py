"""PNG in and out: every colour type and depth."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from service.images.codec import encode
from service.images.metadata import ImageMetadata
from tests.service.images.codec.png_files import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    chunk,
    image,
    png,
    read,
    small_png,
)


@pytest.mark.parametrize("adam7", [False, True])
@pytest.mark.parametrize(
    ("depth", "colour"),
    [(1, GREY), (2, GREY), (4, GREY), (8, GREY), (16, GREY), (8, GREY_ALPHA), (16, GREY_ALPHA),
     (8, RGB), (16, RGB), (8, RGBA), (16, RGBA)],
)  # fmt: skip
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_grey_is_read_from_every_colour_type_and_depth(
    depth: int, colour: int, adam7: bool, data: st.DataObject
) -> None:
    """Grey stored as grey, with alpha, as RGB and RGBA; 16-bit colour keeps all its bits."""
    height, width = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    grey = data.draw(hnp.arrays(np.int64, (height, width), elements=st.integers(0, 2**depth - 1)))
    planes = [grey] * (3 if colour in {RGB, RGBA} else 1)
    if colour in {GREY_ALPHA, RGBA}:
        planes.append(np.full_like(grey, 2**depth - 1))
    body = png(*image(np.stack(planes, -1), depth=depth, colour=colour, adam7=adam7))
    expected = grey * 255 // (2**depth - 1) if depth < 8 else grey

    pixels = read(body).pixels

    assert pixels.dtype == (np.uint16 if depth == 16 else np.uint8)
    np.testing.assert_array_equal(expected, pixels)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("adam7", [False, True])
def test_grey_palette_is_read(depth: int, adam7: bool, rng: np.random.Generator) -> None:
    """A palette of greys is resolved; colours that no pixel uses do not matter."""
    entries = 2**depth
    indices = rng.integers(0, max(1, entries - 1), (9, 13, 1))
    levels = rng.integers(0, 256, entries, np.uint8)
    palette = np.repeat(levels, 3).reshape(-1, 3)
    palette[-1] = (255, 0, 0)
    ihdr, idat = image(indices, depth=depth, colour=PALETTE, adam7=adam7)

    pixels = read(png(ihdr, chunk(b"PLTE", palette.tobytes()), idat)).pixels

    np.testing.assert_array_equal(levels[indices[..., 0]], pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "I;16"])
def test_files_written_by_pillow_are_read(mode: str, rng: np.random.Generator) -> None:
    """Pillow's adaptive filters decode to the same grey levels."""
    grey = rng.integers(0, 256, (33, 47), np.uint8)
    picture = Image.fromarray(grey).convert(mode) if mode != "I;16" else None
    expected = grey if mode != "1" else np.asarray(picture, np.uint8) * 255
    if picture is None:
        expected = grey.astype(np.uint16) * 251
        picture = Image.fromarray(expected)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")

    np.testing.assert_array_equal(expected, read(buffer.getvalue()).pixels)


def test_image_data_may_lie_in_many_chunks() -> None:
    """IDAT chunks of one byte, and an empty one, are one stream."""
    ihdr, idat = image(np.arange(12).reshape(3, 4, 1))
    stream = idat[8:-4]
    pieces = [chunk(b"IDAT", stream[at : at + 1]) for at in range(len(stream))]

    pixels = read(png(ihdr, *pieces, chunk(b"IDAT", b""))).pixels

    np.testing.assert_array_equal(np.arange(12).reshape(3, 4), pixels)


def test_an_interlaced_image_leaves_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is wrong with it: what libpng says of how it is called is not for operators."""
    pixels = read(png(*image(np.arange(12).reshape(3, 4, 1), adam7=True))).pixels

    assert [] == caplog.records
    np.testing.assert_array_equal(np.arange(12).reshape(3, 4), pixels)


def test_gamma_and_profiles_do_not_change_grey_levels() -> None:
    """Grey levels are data: gAMA, sRGB and a broken ICC profile are ignored."""
    ihdr, idat = image(np.arange(12).reshape(3, 4, 1))
    extras = (
        chunk(b"gAMA", struct.pack(">I", 100_000)),
        chunk(b"sRGB", b"\0"),
        chunk(b"iCCP", b"x\0\0broken"),
    )

    np.testing.assert_array_equal(
        np.arange(12).reshape(3, 4), read(png(ihdr, *extras, idat)).pixels
    )


def test_padding_with_zeros_after_the_end_passes() -> None:
    """Some tools pad files to a block size."""
    assert read(small_png() + bytes(500)).pixels.shape == (3, 4)


def test_answer_is_one_grey_image_of_the_same_depth() -> None:
    """The writer makes grey PNGs: no palette, no alpha, no interlacing."""
    for dtype, mode in ((np.uint8, "L"), (np.uint16, "I;16")):
        body = bytes(encode(np.ones((5, 7), dtype), "image/png", ImageMetadata()))
        with Image.open(io.BytesIO(body)) as picture:
            picture.verify()

            assert (mode, (7, 5)) == (picture.mode, picture.size)


def test_answer_of_noise_is_hardly_larger_than_the_noise(rng: np.random.Generator) -> None:
    """Deflate never blows up an answer that cannot be compressed."""
    noise = rng.integers(0, 256, (400, 400), np.uint8)

    assert len(encode(noise, "image/png", ImageMetadata())) < 1.03 * noise.nbytes


def test_exif_orientation_is_neither_applied_nor_carried() -> None:
    """Rows and columns stay those of the file, as with TIFF and JPEG."""
    exif = Image.Exif()
    exif[0x0112] = 6
    samples = np.arange(12).reshape(3, 4, 1)
    ihdr, idat = image(samples)

    found = read(png(ihdr, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")), idat))

    np.testing.assert_array_equal(samples[..., 0], found.pixels)
    assert b"eXIf" not in encode(found.pixels, "image/png", found.metadata)
