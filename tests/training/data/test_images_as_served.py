"""What training reads is what the service reads: files that two readers once saw differently."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from service.ground.errors import ServiceError
from service.images.codec import decode
from service.images.window import FULL_RANGE, to_uint8
from training.data.images import MEDIA_TYPES, ImageFileError, load_images, read_grey

RAMP = np.arange(60 * 80, dtype=np.uint32).reshape(60, 80)
GREY = (RAMP * 7 % 251).astype(np.uint8)
DEEP = (RAMP * 13 % 65521).astype(np.uint16)


def served(path: Path) -> NDArray[np.uint8]:
    """Read a file as the service does."""
    media_type = MEDIA_TYPES[path.suffix]
    image = decode(path.read_bytes(), media_type, shape=None, dtype=None, max_pixels=10**6)
    return to_uint8(image.pixels, FULL_RANGE, white_is_zero=image.white_is_zero)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("pixels", [GREY, DEEP, GREY > 99], ids=["8 bit", "16 bit", "1 bit"])
def test_white_is_zero_is_inverted(tmp_path: Path, pixels: np.ndarray, byteorder: str) -> None:
    """Bright is high at every depth and byte order, as the service has it."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="miniswhite", byteorder=byteorder)  # type: ignore[arg-type]
    scale = {"u": 1, "b": 255}[pixels.dtype.kind]
    stored = pixels.astype(np.uint16) * scale
    eight = (
        to_uint8(65535 - stored, FULL_RANGE) if pixels.itemsize == 2 else 255 - stored.astype("u1")
    )

    assert np.array_equal(eight, read_grey(path))
    assert np.array_equal(served(path), read_grey(path))


def test_white_is_zero_of_12_bits_is_inverted_within_the_window(tmp_path: Path) -> None:
    """Of 12 bits stored in 16 the window says which value is black; nothing turns white."""
    values = np.array([[0, 1000, 4095]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")

    assert [[255, 193, 0]] == read_grey(tmp_path / "a.tif", window=(0, 4095)).tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_orientation_never_scrambles(
    tmp_path: Path, orientation: int, compression: str | None
) -> None:
    """Rows and columns stay as stored, whatever the tag says: training crops know no up."""
    path = tmp_path / "a.tif"
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(path, GREY, extratags=[tag], compression=compression)

    assert np.array_equal(GREY, read_grey(path))
    assert np.array_equal(served(path), read_grey(path))


@pytest.mark.parametrize("imagej", [True, False], ids=["ImageJ", "shaped"])
@pytest.mark.parametrize("pixels", [GREY, DEEP], ids=["8 bit", "16 bit"])
def test_every_plane_of_one_directory_is_an_image(
    tmp_path: Path, pixels: np.ndarray, imagej: bool
) -> None:
    """Stacks that have one directory and the other planes behind its own are read whole."""
    planes = np.stack([pixels, pixels[::-1], pixels // 2, pixels[:, ::-1], pixels // 3])
    options = {"imagej": True} if imagej else {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", planes, truncate=True, **options)  # type: ignore[arg-type]

    images = load_images("a.tif", root=tmp_path)

    assert [f"a.tif[0000000{index}]" for index in range(5)] == [image.name for image in images]
    for expected, image in zip(planes, images, strict=True):
        assert np.array_equal(to_uint8(expected, FULL_RANGE), image.pixels)
    with pytest.raises(ServiceError, match="5 images"):
        served(tmp_path / "a.tif")


def jpeg(**options: int | bool) -> bytes:
    """Write a JPEG of noise."""
    pixels = np.random.default_rng(4).integers(0, 256, (64, 80), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def lost_intervals(body: bytes) -> bytes:
    """Take three restart intervals out of the middle, with their markers."""
    marks = [at for at in range(len(body) - 1) if body[at] == 0xFF and 0xD0 <= body[at + 1] <= 0xD7]
    return body[: marks[2]] + body[marks[5] :]


@pytest.mark.parametrize(
    "body",
    [
        jpeg()[: len(jpeg()) // 2] + b"\xff\xd9",
        jpeg()[: len(jpeg()) * 9 // 10] + b"\xff\xd9",
        lost_intervals(jpeg(restart_marker_blocks=4)),
        jpeg(progressive=True)[: jpeg(progressive=True).rindex(b"\xff\xda")] + b"\xff\xd9",
    ],
    ids=["half", "cut at 90 %", "lost restart intervals", "lacks its last scan"],
)
def test_a_jpeg_that_lacks_data_is_refused(tmp_path: Path, body: bytes) -> None:
    """A lenient decoder invents the rest and only warns; neither reader takes such a picture."""
    path = tmp_path / "a.jpg"
    path.write_bytes(body)

    with pytest.raises(ImageFileError):
        read_grey(path)
    with pytest.raises(ServiceError):
        served(path)


def test_jpeg_in_tiff_and_surplus_bytes_are_judged_alike(tmp_path: Path) -> None:
    """What the service refuses, training refuses: no model learns from what it will never meet."""
    tifffile.imwrite(tmp_path / "jpeg.tif", GREY, compression="jpeg")
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "PNG")
    (tmp_path / "surplus.png").write_bytes(buffer.getvalue() + b"PK\x03\x04")

    for name in ("jpeg.tif", "surplus.png"):
        with pytest.raises(ImageFileError):
            read_grey(tmp_path / name)
        with pytest.raises(ServiceError):
            served(tmp_path / name)
