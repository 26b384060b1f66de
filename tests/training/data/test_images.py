"""Image files are read as grey, and all bad ones are named before training starts."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile
from PIL import Image

from training.data.images import ImageFileError, find_images, load_images, read_grey


def _noise(*, height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def _save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_lossless_grey_is_read_as_stored(tmp_path: Path, suffix: str) -> None:
    """8-bit grey comes back as the same bytes."""
    pixels = _noise()

    assert np.array_equal(pixels, read_grey(_save(tmp_path / f"a{suffix}", pixels)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_grey_stored_with_more_channels_is_accepted(tmp_path: Path, mode: str) -> None:
    """Equal channels, a palette or opacity change nothing."""
    pixels = _noise()
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")

    assert np.array_equal(pixels, read_grey(tmp_path / "a.png"))


def test_jpeg_stored_as_rgb_is_grey(tmp_path: Path) -> None:
    """A grey JPEG with three channels decodes to equal channels."""
    smooth = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))
    Image.fromarray(smooth).convert("RGB").save(tmp_path / "a.jpg", quality=95)

    assert int(np.abs(smooth.astype(int) - read_grey(tmp_path / "a.jpg")).max()) <= 4


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_is_mapped_by_the_window(tmp_path: Path, byteorder: Literal["<", ">"]) -> None:
    """The full range by default, else the given one; beyond it is clipped, whatever is shown."""
    values = np.array([[0, 100, 257 * 128, 65535]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, byteorder=byteorder)

    assert [0, 0, 128, 255] == read_grey(tmp_path / "a.tif")[0].tolist()
    assert [0, 255, 255, 255] == read_grey(tmp_path / "a.tif", window=(0, 100))[0].tolist()
    assert [0, 26, 255, 255] == read_grey(tmp_path / "a.tif", window=(90, 190))[0].tolist()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_rows_below_the_limit_are_not_read(tmp_path: Path, suffix: str) -> None:
    """The data bar may be coloured: it is cut off before colour is judged, in every format."""
    pixels = np.stack([_noise()] * 3, axis=2)
    pixels[30:, :, 0] ^= 255
    path = _save(tmp_path / f"a{suffix}", pixels)

    image = read_grey(path, max_rows_px=30)

    assert np.array_equal(pixels[:30, :, 0], image)
    with pytest.raises(
        ImageFileError, match=r"channels differ at 600 of 2400 pixels, within rows 30 to 39"
    ):
        read_grey(path)


def test_images_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Names are relative to the root; a file matched twice comes once; other files do not count."""
    for number, folder in [(2, "b"), (1, "b"), (3, "a")]:
        _save(tmp_path / folder / f"{number}.png", _noise(seed=number, width=50 + number))
    (tmp_path / "b" / "notes.txt").write_text("notes")
    _save(tmp_path / "b" / ".hidden.png", _noise())

    images = load_images(["b/*.png", "b", tmp_path / "a", str(tmp_path / "b")], root=tmp_path)

    assert ["a/3.png", "b/1.png", "b/2.png"] == [image.name for image in images]
    assert ["a/3.png", "b/1.png", "b/2.png"] == [image.source for image in images]
    assert [(40, 53), (40, 51), (40, 52)] == [image.pixels.shape for image in images]
    assert np.array_equal(_noise(seed=1, width=51), images[1].pixels)


def test_absolute_globs_are_found(tmp_path: Path) -> None:
    """A pattern need not lie below the root; such files keep their whole path as the name."""
    path = _save(tmp_path / "data" / "a.png", _noise())

    assert [path] == find_images(str(tmp_path / "data" / "*.png"), root=tmp_path / "other")
    images = load_images(tmp_path / "data" / "*.png", root=tmp_path / "other")
    assert [path.as_posix()] == [image.name for image in images]


def test_all_bad_files_are_named_at_once(tmp_path: Path) -> None:
    """One error lists each bad file with its reason, and none of the good ones."""
    _save(tmp_path / "good.png", _noise())
    _save(tmp_path / "small.png", _noise(height=20))
    _save(tmp_path / "colour.png", np.stack([_noise(seed=seed) for seed in range(3)], axis=2))
    (tmp_path / "text.bmp").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((40, 60), np.float32))
    clear = Image.fromarray(np.stack([_noise(), 255 - _noise()], axis=2), "LA")
    clear.save(tmp_path / "clear.png")
    _save(tmp_path / "a.png", _noise()).rename(tmp_path / "named.jpg")
    whole = _save(tmp_path / "cut.png", _noise()).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(ImageFileError) as caught:
        load_images([tmp_path, "absent/*.png"], root=tmp_path, min_side_px=32)

    expected = {
        "absent/*.png": "no image file matches",
        "clear.png": "pixels are not opaque",
        "colour.png": "the colour channels differ",
        "cut.png": "the PNG is truncated",
        "empty.jpg": "the file is empty",
        "float.tif": "floating point of 32 bits",
        "named.jpg": "it begins like a PNG; expected image/jpeg",
        "small.png": "60x20 px where used, expected at least 32",
        "text.bmp": "it begins with the bytes",
    }
    lines = str(caught.value).splitlines()
    assert "9 problems among 9 image files" in lines[0]
    found = dict(line.strip().split(": ", maxsplit=1) for line in lines[1:])
    assert expected.keys() == found.keys()
    for name, reason in expected.items():
        assert reason in found[name] + " ", name


@pytest.mark.parametrize("window", [(5, 5), (9, 5), (-1, 5), (0, 65536)])
def test_a_malformed_window_is_refused(tmp_path: Path, window: tuple[int, int]) -> None:
    """A window needs two different ends within 16 bits, whatever the depth of the image."""
    with pytest.raises(ValueError, match="low < high"):
        read_grey(_save(tmp_path / "a.png", _noise()), window=window)


def test_pixels_own_their_memory(tmp_path: Path) -> None:
    """PyTorch takes writable arrays, and a view of the file would keep all of it."""
    tifffile.imwrite(tmp_path / "a.tif", _noise())
    image = read_grey(tmp_path / "a.tif", max_rows_px=10)

    assert image.flags.writeable
    assert image.flags.owndata


def test_a_file_without_a_known_suffix_is_read_by_its_content(tmp_path: Path) -> None:
    """A glob may name files of any suffix; what they are stands in their first bytes."""
    _save(tmp_path / "a.png", _noise()).rename(tmp_path / "a.img")
    (tmp_path / "b.img").write_bytes(b"text")

    assert np.array_equal(_noise(), read_grey(tmp_path / "a.img"))
    with pytest.raises(ImageFileError, match=r"expected one of \.bmp"):
        read_grey(tmp_path / "b.img")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_every_page_of_a_tiff_is_an_image(tmp_path: Path, compression: str | None) -> None:
    """Pages have numbers behind the file's name, and the file as their common source."""
    stack = np.stack([_noise(seed=seed) for seed in range(3)])
    tifffile.imwrite(
        tmp_path / "stack.tif", stack, photometric="minisblack", compression=compression
    )

    images = load_images("*.tif", root=tmp_path)

    expected = ["stack.tif[00000000]", "stack.tif[00000001]", "stack.tif[00000002]"]
    assert expected == [image.name for image in images]
    assert {f"{tmp_path.name}/stack.tif"} == {image.source for image in images}
    assert np.array_equal(stack, np.stack([image.pixels for image in images]))
    with pytest.raises(ImageFileError, match="holds 3 images; expected one"):
        read_grey(tmp_path / "stack.tif")


def test_a_bad_page_names_its_file_once(tmp_path: Path) -> None:
    """One page that cannot be used makes one problem, and no image of the file is used."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(_noise())
        writer.write(np.zeros((40, 60), np.float32))

    with pytest.raises(ImageFileError, match=r"^1 problems among 1 .*\n  a\.tif: .*floating point"):
        load_images("a.tif", root=tmp_path)
