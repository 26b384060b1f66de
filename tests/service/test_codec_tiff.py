"""TIFF in and out: what tifffile and Pillow write, what SEM tools write, and what is refused."""

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from service.codec import DecodedImage, decode, encode
from service.errors import ImageTooLarge, InvalidImage, UnsuitableImage
from service.metadata import ImageMetadata, PixelSize

SHORT, LONG = 3, 4
Tags = dict[int, tuple[int, list[int]]]


def written(pixels: npt.NDArray[Any], **options: Any) -> bytes:
    """Write a TIFF with tifffile."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def page_tags(height: int, width: int, **changes: int) -> Tags:
    """Return the tags of a plain 8-bit page, whose pixels begin where `build` puts them."""
    values = {
        "width": width, "height": height, "bits": 8, "compression": 1, "photometric": 1,
        "samples": 1, "rows_per_strip": height, "strip_bytes": height * width,
    } | changes  # fmt: skip
    codes = {
        "width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262,
        "fill_order": 266, "samples": 277, "rows_per_strip": 278, "strip_bytes": 279,
        "planar": 284, "predictor": 317, "tile_width": 322, "tile_height": 323, "subfile": 254,
        "extra": 338, "format": 339,
    }  # fmt: skip
    return {codes[name]: (LONG, [value]) for name, value in values.items()}


def build(tags: Tags, data: bytes = b"", *, order: str = "<", link: int = 0) -> bytes:
    """Lay out one directory, its values, then the data; tag 273 points at the data by default."""
    tags = {273: (LONG, [-1])} | tags
    outside_at = 8 + 2 + 12 * len(tags) + 4
    sizes = {SHORT: 2, LONG: 4}
    outside_bytes = sum(
        sizes[kind] * len(values) for kind, values in tags.values() if sizes[kind] * len(values) > 4
    )
    data_at = outside_at + outside_bytes
    directory, outside = b"", b""
    for code, (kind, values) in sorted(tags.items()):
        numbers = [data_at if value == -1 else value for value in values]
        packed = struct.pack(f"{order}{len(numbers)}{'H' if kind == SHORT else 'I'}", *numbers)
        directory += struct.pack(order + "HHI", code, kind, len(numbers))
        if len(packed) > 4:
            directory += struct.pack(order + "I", outside_at + len(outside))
            outside += packed
        else:
            directory += packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(tags))
    return head + directory + struct.pack(order + "I", link) + outside + data


def read(body: bytes, max_pixels: int = 10**6) -> DecodedImage:
    """Decode a TIFF."""
    return decode(body, "image/tiff", shape=None, dtype=None, max_pixels=max_pixels)


LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "a row a strip": {"rowsperstrip": 1},
    "last strip short": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "bigtiff": {"bigtiff": True},
    "lzw": {"compression": "lzw"},
    "lzw predicted": {"compression": "lzw", "predictor": True, "rowsperstrip": 5},
    "deflate": {"compression": "adobe_deflate"},
    "old deflate": {"compression": "deflate"},
    "deflate predicted": {"compression": "zlib", "predictor": True, "tile": (16, 16)},
    "packbits": {"compression": "packbits", "rowsperstrip": 3},
    "zstd": {"compression": "zstd", "predictor": True},
    "imagej": {"imagej": True},
    "ome": {"ome": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@settings(deadline=None, max_examples=15)
@given(size=st.tuples(st.integers(1, 50), st.integers(1, 50)), seed=st.integers(0, 2**32 - 1))
def test_grey_written_by_tifffile_is_read(
    layout: str, byteorder: str, dtype: type, size: tuple[int, int], seed: int
) -> None:
    """Strips, tiles, compressions and predictors, both byte orders, 8 and 16 bits."""
    noise = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, size, dtype)
    # Steps, so that LZW, PackBits and the predictor meet runs as well as noise.
    pixels = np.where(noise % 3 == 0, noise, noise & 1)
    order = ">" if layout == "imagej" else byteorder

    found = read(written(pixels, **LAYOUTS[layout], byteorder=order)).pixels

    assert found.dtype == dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(pixels, found)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "lzw"}])
def test_grey_stored_as_rgb_is_read(
    planar: str, alpha: bool, options: dict[str, Any], rng: np.random.Generator
) -> None:
    """Equal channels, contiguous or planar, with or without opaque alpha."""
    grey = rng.integers(0, 65536, (20, 30), np.uint16)
    planes = [grey] * 3 + [np.full_like(grey, 65535)] * alpha
    stacked = np.stack(planes, -1 if planar == "contig" else 0)
    extra = {"extrasamples": ["unassalpha"]} if alpha else {}
    body = written(stacked, photometric="rgb", planarconfig=planar, **options, **extra)

    np.testing.assert_array_equal(grey, read(body).pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_grey_written_by_pillow_is_read(
    mode: str, compression: str | None, rng: np.random.Generator
) -> None:
    """Every grey-like mode of Pillow, through libtiff."""
    grey = rng.integers(0, 256, (21, 35), np.uint8)
    if mode == "I;16":
        expected: npt.NDArray[Any] = grey.astype(np.uint16) * 200
        picture = Image.fromarray(expected)
    else:
        picture = Image.fromarray(grey).convert(mode)
        expected = np.asarray(picture.convert("L"))
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF", compression=compression)

    np.testing.assert_array_equal(expected, read(buffer.getvalue()).pixels)


@pytest.mark.parametrize("bits", [1, 2, 4])
@given(data=st.data())
@settings(deadline=None)
def test_few_bits_are_spread_over_eight(bits: int, data: st.DataObject) -> None:
    """1, 2 and 4 bits a sample, rows padded to bytes, black 0 and white 255."""
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 20)))
    values = data.draw(hnp.arrays(np.uint8, size, elements=st.integers(0, 2**bits - 1)))
    planes = (values[..., np.newaxis] >> np.arange(bits - 1, -1, -1)) & 1
    packed = np.packbits(planes.reshape(size[0], -1), axis=1)
    tags = page_tags(*size, bits=bits, strip_bytes=packed.nbytes)

    np.testing.assert_array_equal(
        values * (255 // (2**bits - 1)), read(build(tags, packed.tobytes())).pixels
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_is_inverted(dtype: type, rng: np.random.Generator) -> None:
    """Bright must be high in the answer."""
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (8, 8), dtype)

    found = read(written(pixels, photometric="miniswhite")).pixels

    np.testing.assert_array_equal(np.iinfo(dtype).max - pixels, found)


@pytest.mark.parametrize("factor", [1, 256, 257])
def test_palette_of_greys_is_read(factor: int, rng: np.random.Generator) -> None:
    """Zeiss writes palette TIFFs; the colour map may be scaled in three ways."""
    pixels = rng.integers(0, 256, (8, 9), np.uint8)
    ramp = np.arange(256) * factor

    body = written(pixels, photometric="palette", colormap=np.stack([ramp] * 3).astype(np.uint16))

    np.testing.assert_array_equal(pixels, read(body).pixels)


def test_coloured_palette_is_refused_only_where_used(rng: np.random.Generator) -> None:
    """Overlay colours that no pixel uses do not matter."""
    pixels = rng.integers(0, 200, (8, 9), np.uint8)
    ramp = np.arange(256) * 257
    red = np.where(np.arange(256) >= 200, 65535, ramp)
    colours = np.stack([red, ramp, ramp]).astype(np.uint16)

    found = read(written(pixels, photometric="palette", colormap=colours)).pixels

    np.testing.assert_array_equal(pixels, found)
    pixels[3, 4] = 200
    with pytest.raises(UnsuitableImage, match="differ at 1 of 72 pixels"):
        read(written(pixels, photometric="palette", colormap=colours))


def test_thumbnails_and_masks_are_not_pages(rng: np.random.Generator) -> None:
    """A reduced copy after the image is passed over."""
    pixels = rng.integers(0, 256, (32, 32), np.uint8)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as tiff:
        tiff.write(pixels)
        tiff.write(pixels[::4, ::4], subfiletype=1)

    np.testing.assert_array_equal(pixels, read(buffer.getvalue()).pixels)


def test_old_files_without_byte_counts_are_read() -> None:
    """Without compression the byte counts follow from the size."""
    tags = page_tags(3, 4)
    del tags[279]

    assert read(build(tags, bytes(range(12)))).pixels.tolist() == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]


def test_last_strip_may_be_filled_to_its_full_height() -> None:
    """Some writers pad the last strip, compressed or not."""
    strips = [bytes(range(8)), bytes(range(8, 16))]
    packed = [bytes(imagecodecs.zlib_encode(strip)) for strip in strips]
    tags = page_tags(3, 4, compression=8, rows_per_strip=2)
    first = len(build(tags | {273: (LONG, [0, 0]), 279: (LONG, [0, 0])}))
    tags |= {
        273: (LONG, [first, first + len(packed[0])]),
        279: (LONG, [len(piece) for piece in packed]),
    }

    pixels = read(build(tags, b"".join(packed))).pixels

    np.testing.assert_array_equal(np.arange(12).reshape(3, 4), pixels)


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (np.zeros((2, 2), np.float32), {}, "floating point of 32 bits"),
        (np.full((2, 2), np.nan, np.float64), {}, "floating point of 64 bits"),
        (np.zeros((2, 2), np.int16), {}, "signed integers of 16 bits"),
        (np.zeros((2, 2), np.uint32), {}, r"\[32\] bits"),
        (np.zeros((2, 2), np.complex64), {}, "complex floats"),
        (np.zeros((3, 8, 8), np.uint8), {"photometric": "minisblack"}, "3 pages"),
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


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"II*\0", "before its first directory"),
        (b"II*\0" + struct.pack("<I", 900) + bytes(99), "directory should be at byte 900"),
        (b"II*\0" + bytes(99), "0 pages"),
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
    ],
)
def test_broken_structure_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    """Each fault is found before pixels are touched, and named."""
    with pytest.raises((InvalidImage, UnsuitableImage)) as caught:
        read(body)

    assert reason in caught.value.detail


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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_answer_can_be_mapped_into_memory(
    dtype: type, rng: np.random.Generator, tmp_path: Path
) -> None:
    """One uncompressed strip, aligned, whatever the metadata before it."""
    pixels = rng.integers(0, 256, (9, 11)).astype(dtype)
    for metadata in (ImageMetadata(), ImageMetadata(PixelSize(1.5, 2.5), "request")):
        file = tmp_path / "answer.tif"
        file.write_bytes(encode(pixels, "image/tiff", metadata))
        mapped = tifffile.memmap(file, mode="r")

        assert mapped.offset % 16 == 0
        np.testing.assert_array_equal(pixels, mapped)


def test_big_endian_host_files_match_little_endian_ones(rng: np.random.Generator) -> None:
    """The same directory in both byte orders is the same image."""
    pixels = rng.integers(0, 256, (3, 4), np.uint8)
    for order in "<>":
        found = read(build(page_tags(3, 4), pixels.tobytes(), order=order)).pixels

        np.testing.assert_array_equal(pixels, found)
