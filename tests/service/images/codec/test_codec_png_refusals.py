"""PNG files that must be refused, with the reason and before any damage."""

import struct
import zlib

import numpy as np
import pytest

from service.ground.errors import ImageTooLarge, InvalidImage, UnsuitableImage
from tests.service.images.codec.png_files import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    SAMPLES,
    chunk,
    header,
    image,
    png,
    read,
    small_png,
)


def test_colour_is_refused_with_place_and_amount() -> None:
    """The message says how many pixels differ, where, and by how much."""
    samples = np.zeros((6, 8, 3), np.int64) + 100
    samples[2, 3] = (100, 140, 90)
    samples[4, 5] = (101, 100, 100)

    with pytest.raises(UnsuitableImage) as caught:
        read(png(*image(samples, colour=RGB)))

    assert caught.value.status == 422
    assert caught.value.detail == (
        "the colour channels differ at 2 of 48 pixels, within rows 2 to 4 and columns 3 to 5 "
        "(first at row 2, column 3: R, G, B = 100, 140, 90; greatest difference 50); expected a "
        "grey image, with equal channels"
    )


def test_sixteen_bit_colour_that_differs_in_its_low_byte_is_refused() -> None:
    """A difference that 8 bits would hide is a difference."""
    samples = np.full((2, 2, 3), 0x1200)
    samples[1, 1, 2] = 0x1201

    with pytest.raises(UnsuitableImage, match="greatest difference 1"):
        read(png(*image(samples, depth=16, colour=RGB)))


def test_transparency_is_refused() -> None:
    """Any pixel that is not opaque is named."""
    samples = np.full((2, 3, 2), 255)
    samples[1, 2, 1] = 254

    with pytest.raises(UnsuitableImage, match=r"1 of 6 pixels are not opaque.*row 1, column 2"):
        read(png(*image(samples, colour=GREY_ALPHA)))


@pytest.mark.parametrize(
    ("colour", "depth", "value"),
    [(GREY, 8, b"\0\x05"), (GREY, 16, b"\0\x05"), (RGB, 8, b"\0\x05" * 3)],
)
def test_transparent_colour_is_refused_only_where_a_pixel_has_it(
    colour: int, depth: int, value: bytes
) -> None:
    """A tRNS chunk makes one grey level transparent."""
    samples = np.arange(12).reshape(3, 4, 1).repeat(SAMPLES[colour], axis=2)
    ihdr, idat = image(samples, depth=depth, colour=colour)
    with pytest.raises(UnsuitableImage, match="1 of 12 pixels are not opaque"):
        read(png(ihdr, chunk(b"tRNS", value), idat))
    harmless = value.replace(b"\x05", b"\x63")

    np.testing.assert_array_equal(
        np.arange(12).reshape(3, 4), read(png(ihdr, chunk(b"tRNS", harmless), idat)).pixels
    )


@pytest.mark.parametrize(
    ("colour", "depth"), [(GREY, 1), (GREY, 2), (GREY, 4), (GREY, 8), (RGB, 8)]
)
def test_transparent_level_counts_in_the_bits_of_a_sample_only(
    colour: int, depth: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Higher bits of tRNS are ignored, as the format has it, without libpng's warning."""
    samples = np.array([[[0], [1]]]).repeat(SAMPLES[colour], axis=2)
    ihdr, idat = image(samples, depth=depth, colour=colour)
    used = struct.pack(">H", 0xFF00 & -(1 << depth) | 1) * SAMPLES[colour]
    unused = struct.pack(">H", 1 << depth | ((1 << depth) - 1)) * SAMPLES[colour]

    with pytest.raises(UnsuitableImage, match=r"1 of 2 pixels are not opaque.*row 0, column 1"):
        read(png(ihdr, chunk(b"tRNS", used), idat))
    if depth > 1:
        plain = read(png(ihdr, idat)).pixels.tolist()
        assert plain == read(png(ihdr, chunk(b"tRNS", unused), idat)).pixels.tolist()
    assert [] == caplog.records


def test_transparent_palette_entry_is_refused_only_where_used() -> None:
    """Alpha of unused entries, and full alpha, are harmless."""
    palette = chunk(b"PLTE", bytes([9, 9, 9, 8, 8, 8, 7, 7, 7]))
    ihdr, idat = image(np.array([[[0], [1]]]), colour=PALETTE)

    assert read(png(ihdr, palette, chunk(b"tRNS", b"\xff\xff\0"), idat)).pixels.tolist() == [[9, 8]]
    with pytest.raises(UnsuitableImage, match="1 of 2 pixels are not opaque"):
        read(png(ihdr, palette, chunk(b"tRNS", b"\xff\x80"), idat))


def test_animation_is_refused() -> None:
    """An APNG of two frames is not a tile; one frame is a still image."""
    ihdr, idat = image(np.zeros((2, 2, 1), np.int64))

    assert read(png(ihdr, chunk(b"acTL", struct.pack(">II", 1, 0)), idat)).pixels.shape == (2, 2)
    with pytest.raises(UnsuitableImage, match="animated, with 2 frames"):
        read(png(ihdr, chunk(b"acTL", struct.pack(">II", 2, 0)), idat))


IHDR, IDAT = image(np.arange(12).reshape(3, 4, 1))


PALETTE_IHDR, PALETTE_IDAT = image(np.arange(4).reshape(2, 2, 1), colour=PALETTE)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (png(IHDR), "no image data"),
        (png(IDAT, IHDR), "first chunk"),
        (png(IHDR, IHDR, IDAT), "second or unknown critical chunk, b'IHDR'"),
        (png(IHDR, chunk(b"ABCD", b""), IDAT), "second or unknown critical chunk, b'ABCD'"),
        (png(IHDR, IDAT[:8] + b"\0" + IDAT[9:]), "CRC of its IDAT chunk"),
        (png(IHDR, IDAT, chunk(b"tEXt", b"a\0b"), IDAT), "do not follow one another"),
        (png(IHDR, IDAT) + b"PK\x03\x04", "4 bytes follow the end"),
        (png(IHDR, b"\0\0\0\0I\0AT\0\0\0\0", IDAT), "chunk type"),
        (png(header(3, 4, depth=3), IDAT), "colour type 0 with 3 bits"),
        (png(header(3, 4, depth=4, colour=RGB), IDAT), "colour type 2 with 4 bits"),
        (png(header(3, 4, colour=5), IDAT), "colour type 5"),
        (png(header(3, 4, adam7=2), IDAT), "interlacing 2"),
        (png(header(2**31, 4), IDAT), "the format ends at"),
        (png(header(4, 4), IDAT), "inflates to 15 bytes; expected 20"),
        (png(header(2, 4), IDAT), "inflates to more than the 10 bytes"),
        (png(PALETTE_IHDR, PALETTE_IDAT), "no palette"),
        (png(PALETTE_IHDR, chunk(b"PLTE", bytes(4)), PALETTE_IDAT), "odd palette of 4 bytes"),
        (png(PALETTE_IHDR, chunk(b"PLTE", bytes(6)), PALETTE_IDAT), "palette index 3"),
        (png(PALETTE_IHDR, chunk(b"PLTE", bytes(771)), PALETTE_IDAT), "257 entries"),
        (
            png(PALETTE_IHDR, chunk(b"PLTE", bytes(12)), chunk(b"tRNS", bytes(5)), PALETTE_IDAT),
            "its tRNS 5",
        ),
        (png(IHDR, chunk(b"tRNS", b"\0"), IDAT), "tRNS chunk of 1 bytes; expected 2"),
        (png(IHDR, *[chunk(b"tRNS", b"\0\x63")] * 2, IDAT), "second or misplaced tRNS"),
        (png(IHDR, IDAT, chunk(b"tRNS", b"\0\x63")), "second or misplaced tRNS"),
        (
            png(PALETTE_IHDR, chunk(b"tRNS", b"\xff"), chunk(b"PLTE", bytes(12)), PALETTE_IDAT),
            "second or misplaced tRNS",
        ),
        (png(IHDR, chunk(b"PLTE", bytes(12)), IDAT), "palette of 12 bytes"),
        (
            png(IHDR, chunk(b"IDAT", IDAT[8:-4] + b"more")),
            "image data has 4 bytes after its end",
        ),
        (
            png(
                *image(np.zeros((2, 2, 2), np.int64) + 255, colour=GREY_ALPHA)[:1],
                chunk(b"tRNS", b"\0\0"),
                image(np.zeros((2, 2, 2), np.int64) + 255, colour=GREY_ALPHA)[1],
            ),
            "expected none",
        ),
        (png(IHDR, chunk(b"IDAT", b"\x78\x9c\0\0\0\0")), "the PNG's image data is damaged"),
    ],
)
def test_broken_structure_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    """Each fault is found by the walk and named."""
    with pytest.raises(InvalidImage) as caught:
        read(body)

    assert reason in caught.value.detail


def test_unknown_filter_is_refused() -> None:
    """A filter byte beyond 4 does not decode."""
    stream = bytearray(zlib.decompress(IDAT[8:-4]))
    stream[0] = 9

    with pytest.raises(InvalidImage, match="does not decode as image/png"):
        read(png(IHDR, chunk(b"IDAT", zlib.compress(bytes(stream)))))


def test_missing_end_is_a_truncation() -> None:
    """A file without IEND is truncated, even with all its pixels."""
    with pytest.raises(InvalidImage, match="truncated"):
        read(small_png()[:-12])


def test_millions_of_chunks_are_refused() -> None:
    """Empty chunks cost time, not bytes; their number is bounded."""
    with pytest.raises(InvalidImage, match="more than 8192 chunks"):
        read(png(IHDR, chunk(b"IDAT", b"") * 10_000))


def test_size_is_checked_before_anything_is_decoded() -> None:
    """A header alone is enough to refuse: the rest need not even be there."""
    claims_huge = png(header(100_000, 100_000), IDAT)
    with pytest.raises(
        ImageTooLarge, match=r"100000×100000.*10000000000.*at most 1000000"
    ) as caught:
        read(claims_huge)

    assert caught.value.status == 413
    assert len(claims_huge) < 100


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_no_pixels_is_unsuitable(size: tuple[int, int]) -> None:
    """0×0 decodes in principle, but there is nothing to upscale."""
    with pytest.raises(UnsuitableImage, match=f"{size[0]}×{size[1]}"):
        read(png(header(*size), IDAT))


def test_limit_is_the_number_of_pixels_that_still_pass() -> None:
    """Exactly `max_pixels` pixels are decoded, one more is not."""
    assert read(small_png(), max_pixels=12).pixels.size == 12
    with pytest.raises(ImageTooLarge):
        read(small_png(), max_pixels=11)
