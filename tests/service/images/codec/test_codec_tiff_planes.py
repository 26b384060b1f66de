"""Several images in one TIFF directory: all are found, in order, or the file is refused."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from service.ground.errors import InvalidImage, ServiceError, UnsuitableImage
from service.images.codec.image import DecodeOptions
from service.images.codec.tiff_decode import decode_page
from service.images.codec.tiff_pages import iterate_pages, page_places, read_page
from tests.scans import enlarged, manifest, scan, write_lot
from tests.service.images.codec.tiff_files import LONG, build, page_tags, read

STACK = np.random.default_rng(5).integers(0, 65536, (5, 24, 20), np.uint16)
OPTIONS = DecodeOptions(None, None, 10**6)


def imagej(stack: npt.NDArray[Any] = STACK, **options: Any) -> bytes:
    """Write a stack as ImageJ writes those beyond 4 GB: one directory, then all planes."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stack, imagej=True, truncate=True, **options)
    return buffer.getvalue()


def shaped(stack: npt.NDArray[Any] = STACK, **options: Any) -> bytes:
    """Write a stack with tifffile's `truncated` shape."""
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        stack,
        truncate=True,
        **{"photometric": "minisblack", "metadata": {"axes": "ZYX"}} | options,
    )
    return buffer.getvalue()


def volume(**options: Any) -> bytes:
    """Write a stack with ImageDepth."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, STACK, volumetric=True, photometric="minisblack", **options)
    return buffer.getvalue()


def metamorph() -> bytes:
    """Lay out a MetaMorph stack: an entry of its UIC2 tag for each plane, which follow."""
    stack = STACK.astype("<u2")
    tags = page_tags(24, 20, bits=16, strip_bytes=stack[0].nbytes) | {33629: (LONG, [0] * 5)}
    return build(tags, stack.tobytes())


FILES = {
    "imagej": imagej(),
    "imagej of 8 bits": imagej((STACK >> 8).astype(np.uint8)),
    "imagej with unit": imagej(metadata={"unit": "nm"}, resolution=(0.25, 0.25)),
    "shaped": shaped(),
    "shaped in strips": shaped(rowsperstrip=7),
    "shaped bigtiff": shaped(bigtiff=True, byteorder=">"),
    "volume": volume(),
    "volume in strips": volume(rowsperstrip=7),
    "volume compressed": volume(rowsperstrip=7, compression="zlib", predictor=True),
    "volume in tiles": volume(tile=(16, 16)),
    "metamorph": metamorph(),
}


def images_of(body: bytes) -> list[npt.NDArray[Any]]:
    """Decode every image, by the way of batches."""
    return [decode_page(page, OPTIONS).pixels for page in iterate_pages(memoryview(body), most=100)]


@pytest.mark.parametrize("name", FILES)
def test_every_image_of_a_directory_is_read_in_order(name: str) -> None:
    """As a batch reads them, and as a scan does."""
    body = FILES[name]
    expected = STACK >> 8 if "8 bits" in name else STACK
    places = page_places(memoryview(body), most=100)

    np.testing.assert_array_equal(expected, np.stack(images_of(body)))
    assert 5 == len(places)
    for index in (4, 0, 2):
        page = read_page(memoryview(body), places[index])
        np.testing.assert_array_equal(expected[index], decode_page(page, OPTIONS).pixels)


@pytest.mark.parametrize("name", FILES)
def test_single_request_says_how_many_images_there_are(name: str) -> None:
    """422, not the first of them."""
    with pytest.raises(UnsuitableImage, match="holds 5 images; expected one"):
        read(FILES[name])


def test_stack_of_directories_is_not_counted_twice() -> None:
    """ImageJ's description states all images; the directories that follow are these."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, STACK, imagej=True)

    np.testing.assert_array_equal(STACK, np.stack(images_of(buffer.getvalue())))


def test_colour_stack_is_counted_by_pixels() -> None:
    """Three samples a pixel, one behind the other or apart, are one image."""
    stack = np.repeat((STACK >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    bodies = [
        shaped(stack, photometric="rgb"),
        shaped(np.moveaxis(stack, -1, 1), photometric="rgb", planarconfig="separate"),
        imagej(stack),
    ]

    for body in bodies:
        np.testing.assert_array_equal(STACK >> 8, np.stack(images_of(body)))


@pytest.mark.parametrize("make", [imagej, shaped])
def test_stack_that_ends_early_is_refused(make: Callable[[], bytes]) -> None:
    """In the middle of a plane, or between two."""
    body = make()
    plane = STACK[0].nbytes
    for missing in (1, plane, plane + 100, 3 * plane):
        with pytest.raises(InvalidImage, match="truncated: it states 5 images"):
            images_of(body[:-missing])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_description_copied_from_a_stack_does_not_make_one(compression: str | None) -> None:
    """One image of a stack, saved alone by a program that keeps the description."""
    description = "ImageJ=1.54f\nimages=5\nslices=5\nhyperstack=true\n"
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, STACK[0], description=description, metadata=None, compression=compression
    )

    np.testing.assert_array_equal(STACK[0], read(buffer.getvalue()).pixels)


@pytest.mark.parametrize("thumbnails", [1, 5])
def test_copied_description_beside_thumbnails_makes_no_stack(thumbnails: int) -> None:
    """The bytes of thumbnails behind the image are not further planes of it."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        description = "ImageJ=1.54f\nimages=2\nslices=2\n"
        file.write(STACK[0], description=description, metadata=None)
        for _ in range(thumbnails):
            file.write(np.ascontiguousarray(STACK[0][::2]), subfiletype=1, metadata=None)

    np.testing.assert_array_equal(STACK[0], read(buffer.getvalue()).pixels)


def test_more_images_than_allowed_are_refused_before_any_is_read() -> None:
    """A description cannot make endless work of a small file."""
    tags = page_tags(1, 1) | {33629: (LONG, [0] * 200)}
    body = memoryview(build(tags, bytes(200)))

    assert 200 == len(page_places(body, most=200))
    with pytest.raises(UnsuitableImage, match="more than 199 images"):
        next(iterate_pages(body, most=199))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (volume(tile=(2, 16, 16)), "tiles of depth 2"),
        (build(page_tags(3, 4) | {32997: (LONG, [2])}, bytes(24)), "has 1 strips or tiles"),
        (
            build(page_tags(3, 4, samples=3, planar=2) | {32997: (LONG, [2])}, bytes(72)),
            "channel by channel",
        ),
        (build(page_tags(3, 4, compression=5) | {33629: (LONG, [0] * 3)}, bytes(36)), "compressed"),
    ],
)
def test_stacks_stored_otherwise_are_refused(body: bytes, reason: str) -> None:
    """Loudly, in every reader."""
    with pytest.raises(ServiceError, match=reason):
        images_of(body)
    with pytest.raises(ServiceError, match=reason):
        page_places(memoryview(body), most=100)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_images_stored_as_samples_are_refused(planar: str) -> None:
    """Five grey samples a pixel are five images, or a spectrum; neither is one grey image."""
    buffer = io.BytesIO()
    samples = np.moveaxis(STACK, 0, -1) if planar == "contig" else STACK
    tifffile.imwrite(buffer, samples, photometric="minisblack", planarconfig=planar)

    with pytest.raises(UnsuitableImage, match="5 samples a pixel"):
        read(buffer.getvalue())
    with pytest.raises(UnsuitableImage, match="5 samples a pixel"):
        images_of(buffer.getvalue())


@pytest.mark.parametrize("name", ["imagej of 8 bits", "shaped", "volume"])
def test_scan_makes_a_tile_of_every_image(tmp_path: Path, name: str) -> None:
    """Under the names that the pages of a TIFF have; none says that it is a stack."""
    path = tmp_path / "lot.tif"
    path.write_bytes(FILES[name])

    report = scan(path, tmp_path / "out", window=(0, 65535))

    assert report.is_complete
    rows = manifest(report.manifest)
    assert [f"lot/{index:08d}_x4.tif" for index in range(5)] == [row["output"] for row in rows]
    for index, row in enumerate(rows):
        with tifffile.TiffFile(tmp_path / "out" / row["output"]) as tiff:
            assert 1 == len(tiff.pages)
            expected = np.rint(STACK[index] / 257).astype(np.uint8)
            if "8 bits" in name:
                expected = (STACK[index] >> 8).astype(np.uint8)
            np.testing.assert_array_equal(enlarged(expected), tiff.asarray())


def test_folder_scan_names_a_file_of_several_images(tmp_path: Path) -> None:
    """A file of a folder is one image: this tile fails with their number, the others do not."""
    lot = tmp_path / "lot"
    write_lot(lot, 2)
    (lot / "stack.tif").write_bytes(FILES["imagej"])

    report = scan(lot, tmp_path / "out")

    assert not report.is_complete
    failed = [row for row in manifest(report.manifest) if row["error"]]
    assert ["stack.tif"] == [row["source"] for row in failed]
    assert "holds 5 images" in failed[0]["error"]
