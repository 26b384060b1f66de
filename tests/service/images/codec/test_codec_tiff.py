"""TIFF in and out: what tifffile, Pillow and SEM tools write."""

import io
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

from service.ground.errors import UnsuitableImage
from service.images.codec import encode
from service.images.codec.tiff_pages import read_pages
from service.images.metadata import ImageMetadata, PixelSize
from service.images.window import FULL_RANGE, to_uint8
from tests.service.images.codec.tiff_files import LONG, build, page_tags, read, written

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
@settings(deadline=None, max_examples=8)
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
@settings(deadline=None, max_examples=30)
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


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_white_is_zero_is_inverted(bits: int, rng: np.random.Generator) -> None:
    """Bright must be high in the answer."""
    values = rng.integers(0, 1 << bits, (8, 8), np.uint8)
    planes = (values[..., np.newaxis] >> np.arange(bits - 1, -1, -1)) & 1
    packed = np.packbits(planes.reshape(8, -1), axis=1)
    tags = page_tags(8, 8, bits=bits, strip_bytes=packed.nbytes, photometric=0)

    found = read(build(tags, packed.tobytes()))

    np.testing.assert_array_equal(255 - values * (255 // ((1 << bits) - 1)), found.pixels)
    assert not found.white_is_zero


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_white_is_zero_of_16_bits_is_inverted_within_the_window(
    byteorder: str, rng: np.random.Generator
) -> None:
    """12 bits in 16 are a picture under the window 0,4095, and the full range is as before."""
    pixels = rng.integers(0, 4096, (8, 8), np.uint16)

    found = read(written(pixels, photometric="miniswhite", byteorder=byteorder))

    assert found.white_is_zero
    np.testing.assert_array_equal(pixels, found.pixels)
    for window, top in (((0, 4095), 4095), (FULL_RANGE, 65535)):
        np.testing.assert_array_equal(
            to_uint8(top - pixels, window),
            to_uint8(found.pixels, window, white_is_zero=found.white_is_zero),
        )


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
    """A reduced copy after the image is skipped."""
    pixels = rng.integers(0, 256, (32, 32), np.uint8)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as tiff:
        tiff.write(pixels)
        tiff.write(pixels[::4, ::4], subfiletype=1)

    np.testing.assert_array_equal(pixels, read(buffer.getvalue()).pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_neither_applied_nor_carried(
    orientation: int, rng: np.random.Generator
) -> None:
    """Rows and columns stay those of the file, as its writer's coordinates count them."""
    pixels = rng.integers(0, 256, (6, 9), np.uint8)

    found = read(written(pixels, extratags=[(274, 3, 1, orientation, True)]))

    np.testing.assert_array_equal(pixels, found.pixels)
    answer = bytes(encode(found.pixels, "image/tiff", found.metadata))
    (page,) = read_pages(memoryview(answer))
    assert 274 not in page.entries


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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_answer_can_be_mapped_into_memory(
    dtype: type, rng: np.random.Generator, tmp_path: Path
) -> None:
    """One uncompressed strip, aligned, after any metadata."""
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


def test_strip_rounded_up_to_a_sector_is_read() -> None:
    """A surplus of fewer bytes than rows cannot mean another width."""
    pixels = np.arange(97 * 30, dtype=np.uint32).astype(np.uint8).reshape(97, 30)
    body = build(page_tags(97, 30, strip_bytes=97 * 30 + 93), pixels.tobytes() + bytes(93))

    np.testing.assert_array_equal(pixels, read(body).pixels)


def test_damaged_resolution_unit_costs_the_size_and_not_the_image() -> None:
    """The pixels are not in doubt."""
    tags = page_tags(4, 4) | {296: (LONG, [2, 2])}
    image = read(build(tags, bytes(16)))

    assert (4, 4) == image.pixels.shape
    assert image.metadata.pixel_size is None
