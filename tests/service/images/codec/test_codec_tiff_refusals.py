"""TIFF files that must be refused, with the reason and before any damage."""

import struct
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from service.ground.errors import ImageTooLarge, InvalidImage, UnsuitableImage
from tests.service.images.codec.tiff_files import LONG, SHORT, Tags, build, page_tags, read, written


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (np.zeros((2, 2), np.float32), {}, "floating point of 32 bits"),
        (np.full((2, 2), np.nan, np.float64), {}, "floating point of 64 bits"),
        (np.zeros((2, 2), np.int16), {}, "signed integers of 16 bits"),
        (np.zeros((2, 2), np.uint32), {}, r"\[32\] bits"),
        (np.zeros((2, 2), np.complex64), {}, "complex floats"),
        (np.zeros((3, 8, 8), np.uint8), {"photometric": "minisblack"}, "holds 3 images"),
        (np.zeros((40, 8, 8), np.uint8), {"photometric": "minisblack"}, "more than 16 images"),
        (np.zeros((8, 8, 5), np.uint8), {"photometric": "minisblack", "planarconfig": "contig"},
         "5 samples"),
        (np.zeros((8, 8, 4), np.uint8), {"photometric": "separated"}, "photometric.* 5"),
        (np.zeros((16, 16), np.uint8), {"compression": "jpeg"}, "compression 7"),
        (np.zeros((16, 16), np.uint8), {"compression": "lzma"}, "compression 34925"),
    ],
)  # fmt: skip
def test_other_kinds_are_unsuitable_with_the_reason(
    pixels: npt.NDArray[Any], options: dict[str, Any], reason: str
) -> None:
    """Floats, signed, complex, several pages, many channels, unread compressions: 422."""
    with pytest.raises(UnsuitableImage, match=reason) as caught:
        read(written(pixels, **options))

    assert caught.value.status == 422


def test_colour_is_refused_with_place_and_amount() -> None:
    """The message says where the channels differ."""
    pixels = np.zeros((5, 6, 3), np.uint8)
    pixels[4, 5, 1] = 9

    with pytest.raises(UnsuitableImage, match=r"1 of 30 pixels.*row 4, column 5.*= 0, 9, 0"):
        read(written(pixels, photometric="rgb"))


def test_alpha_must_be_opaque_and_unknown_channels_constant() -> None:
    """An extra channel is alpha, or nothing at all."""
    pixels = np.zeros((4, 4, 2), np.uint8)
    pixels[..., 1] = 255
    pixels[1, 2, 1] = 0
    for meaning, reason in (("unassalpha", "not opaque"), ("unspecified", "not constant")):
        options = {"photometric": "minisblack", "extrasamples": [meaning], "planarconfig": "contig"}
        with pytest.raises(UnsuitableImage, match=reason):
            read(written(pixels, **options))
        pixels_ok = np.dstack([pixels[..., 0], np.full((4, 4), 255, np.uint8)])

        assert read(written(pixels_ok, **options)).pixels.shape == (4, 4)


DATA = bytes(12)
THREE_STRIPS = {273: (LONG, [-1] * 3), 279: (LONG, [4] * 3)}


def without(code: int) -> Tags:
    """Return the tags of a plain page but one."""
    return {other: entry for other, entry in page_tags(3, 4).items() if other != code}


def directory_last() -> bytes:
    """Return a TIFF whose directory, with the link to the next one, is the end of the file."""
    body = build(page_tags(3, 4) | {273: (LONG, [8])})
    return body[:4] + struct.pack("<I", 8 + len(DATA)) + DATA + body[8:]


AT_THE_END = directory_last()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"II*\0", "before its first directory"),
        (b"II*\0" + struct.pack("<I", 900) + bytes(99), "directory should be at byte 900"),
        (b"II*\0" + bytes(99), "0 images"),
        (b"II*\0\x08\0\0\0\0\0" + bytes(20), "claims 0 tags"),
        (b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65535), "claims 65535 tags"),
        (b"II+\0\x04\0\0\0" + bytes(20), "unknown offset size"),
        (build(page_tags(3, 4), DATA, link=8), "loop"),
        (build({256: (LONG, [4])}, DATA), "lacks the tag 257"),
        (build(page_tags(3, 4) | {273: (LONG, [2**32 - 1])}, DATA), "truncated: strip or tile 0"),
        (build(page_tags(3, 4), DATA[:-1]), "truncated: strip or tile 0 takes 12 bytes"),
        (build(page_tags(3, 4, strip_bytes=11), DATA[:-1]), "has 11 bytes of image data"),
        (
            build(
                page_tags(3, 4, rows_per_strip=2) | {273: (LONG, [-1, -1]), 279: (LONG, [4, 8])},
                DATA,
            ),
            "strip or tile 0 of the TIFF has 4 bytes; expected 8",
        ),
        (build(page_tags(3, 4, rows_per_strip=1), DATA), "1 offsets and 1 byte counts"),
        (build(page_tags(3, 4, planar=3), DATA), "planar configuration 3"),
        (build(page_tags(3, 4, photometric=3), DATA), "colour map has 0 values; expected 768"),
        (build(page_tags(3, 4, compression=8, strip_bytes=4), b"\x78\x9c\0\0"), "deflate"),
        (build(page_tags(3, 4, tile_width=0, tile_height=16), DATA), "of 16×0 pixels"),
        (build(without(262), DATA), "lacks the tag 262"),
        (build(page_tags(3, 4, predictor=2), DATA), "predictor 2 without compression"),
        (build(page_tags(3, 4) | {273: (LONG, [0])}, DATA), "at byte 0, over its header"),
        (build(page_tags(3, 4) | {273: (LONG, [20])}, DATA), "at byte 20, over its header or"),
        (build(page_tags(3, 4) | {259: (SHORT, [1, 5])}, DATA), "tag 259 has 2 values"),
        (build(page_tags(2, 4, rows_per_strip=1) | THREE_STRIPS, DATA), "expected 2"),
        (build(without(279) | {273: (LONG, [-1] * 3), 278: (LONG, [1])}, DATA), "0 byte counts"),
        (build(page_tags(3, 4, rows_per_strip=0), DATA), "0 rows in a strip"),
        (
            build(page_tags(3, 2, samples=2, extra=9, strip_bytes=12), DATA),
            "extra channel has the meaning 9",
        ),
        (build(page_tags(1, 7, strip_bytes=12), DATA), "has 12 bytes; expected 7"),
        (build(page_tags(2, 5, compression=32773, strip_bytes=13), b"\x0b" + DATA), "12 bytes"),
        (build(page_tags(3, 4, format=0), DATA), "samples of format 0"),
        (AT_THE_END[:-4], "truncated: it ends at byte"),
        (AT_THE_END[:-1], "truncated: it ends at byte"),
    ],
)
def test_broken_structure_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    """Each fault is found before pixels are touched, and named."""
    with pytest.raises((InvalidImage, UnsuitableImage)) as caught:
        read(body)

    assert reason in caught.value.detail


def test_bits_of_some_samples_only_are_refused() -> None:
    """Such a file is one that libtiff does not read either."""
    tags = page_tags(2, 2, samples=3, photometric=2, strip_bytes=12) | {258: (SHORT, [8, 8])}

    with pytest.raises(InvalidImage, match="bits of 2 of its 3 samples"):
        read(build(tags, bytes(12)))


@pytest.mark.parametrize("side", ["tile_width", "tile_height"])
def test_one_side_of_tiles_is_refused(side: str) -> None:
    """Readers do not agree whether such a file has tiles or strips."""
    body = build(page_tags(16, 16, **{side: 16}), bytes(256))

    with pytest.raises(InvalidImage, match="one side of its tiles"):
        read(body)


def test_a_directory_may_be_the_end_of_the_file() -> None:
    """Where the link behind it is whole, nothing is missing."""
    assert read(AT_THE_END).pixels.shape == (3, 4)


def test_a_table_of_too_many_strips_is_refused_without_reading_it() -> None:
    """A million offsets for one strip belong to another image size; they are not converted."""
    tags = page_tags(3, 4) | {273: (LONG, [-1] * 10**6)}
    body = build(tags, DATA)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidImage, match=r"2 offsets and 1 byte counts.*; expected 1"):
            read(body)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < 10**5


def test_count_beyond_the_file_is_refused_without_reading_it() -> None:
    """A tag that claims four billion values costs nothing."""
    body = bytearray(build(page_tags(3, 4), DATA))
    at = body.index(struct.pack("<HHI", 273, LONG, 1))
    body[at + 4 : at + 8] = b"\xff\xff\xff\xff"

    with pytest.raises(InvalidImage, match=r"tag 273 \(type 4, 4294967295 values"):
        read(bytes(body))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fill_order": 2}, "FillOrder 2"),
        ({"predictor": 3}, "predictor 3"),
        ({"tile_width": 2**30, "tile_height": 2**30}, "1073741824×1073741824"),
        ({"bits": 12}, r"\[12\] bits"),
        ({"height": 20_000, "rows_per_strip": 1}, "20000 strips"),
    ],
)
def test_unread_features_are_unsuitable(changes: dict[str, int], reason: str) -> None:
    """What is not read is said, with what is."""
    with pytest.raises(UnsuitableImage, match=reason):
        read(build(page_tags(**{"height": 3, "width": 4} | changes), DATA))


def test_size_is_checked_before_anything_is_decoded() -> None:
    """Claims beyond the limit are refused from the directory alone; so is an empty image."""
    with pytest.raises(ImageTooLarge, match=r"at most 1000000"):
        read(build(page_tags(2**31, 2**31, strip_bytes=12), DATA))
    with pytest.raises(UnsuitableImage, match="0×4"):
        read(build(page_tags(0, 4), DATA))
