"""Several images in one TIFF directory: their number, and each as a separate directory.

Three conventions, none of which a reader of plain TIFF sees: the planes follow the first one in the
file and a description states how many (ImageJ's `images=`, all its files beyond 4 GB; tifffile's
`truncated` shape; MetaMorph's UIC2 tag, which has an entry for each plane), or the directory has
ImageDepth (32997) and the strips of all slices. A reader without these
conventions silently returns the first image only.
"""

import re
from dataclasses import replace
from math import prod

import numpy as np
import numpy.typing as npt

from service.ground.errors import InvalidImage, UnsuitableImage
from service.images.codec.tiff_structure import Directory

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _DESCRIPTION = 256, 257, 258, 259, 270
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_IMAGE_DEPTH, _TILE_DEPTH, _UIC2 = 32997, 32998, 33629

_IMAGEJ = re.compile(rb"\AImageJ=[^\0]{0,2000}?^images=(?P<count>[0-9]{1,9})\r?$", re.MULTILINE)
_SHAPED = re.compile(
    rb"\A\{\"shape\": ?\[(?P<shape>[0-9]{1,9}(?:, ?[0-9]{1,9}){0,15})\][^\0]{0,2000}"
    rb"\"truncated\": ?true"
)
# Bytes that may follow the data of one image without being part of another.
_PADDING_BYTES = 64
_MAX_STRIPS = 16_384


def images_stated(page: Directory) -> bool:
    """Whether a directory states, by any of the conventions, that it may hold several images."""
    return _slices(page) > 1 or _stated(page, alone=True) > 1


def count_images(page: Directory, *, alone: bool) -> int:
    """Return how many images a directory holds: 1 for a plain one.

    Args:
        page: Directory.
        alone: Whether it is the only image of its file; ImageJ's description counts only then,
            since the directories that follow are the other images.

    Raises:
        InvalidImage: It states several images, and the file ends within them.
        UnsuitableImage: Its slices are stored in blocks, or by channel.
    """
    slices = _slices(page)
    if slices > 1:
        return _check_slices(page, slices)
    stated = _stated(page, alone=alone)
    if stated <= 1:
        return 1
    offsets, lengths = _strips(page)
    if len(offsets):
        return _check_planes(page, stated, int(offsets[0]), int(lengths.sum()))
    if _UIC2 in page.entries:
        raise UnsuitableImage(
            f"the TIFF states {stated} images in one directory, compressed, tiled or apart; "
            "expected them uncompressed, one after the other"
        )
    return 1  # programs that pack or tile one image of a stack copy its description


def image_of(page: Directory, index: int) -> Directory:
    """Return one of the images that `count_images` counted as a separate directory."""
    if _slices(page) > 1:
        tables = _slice_tables(page, index)
    elif index == 0:
        return page
    else:
        offsets, lengths = _strips(page)
        tables = {_STRIP_OFFSETS: offsets + index * int(lengths.sum()), _STRIP_BYTES: lengths}
    return replace(page, tables=tables)


def _slices(page: Directory) -> int:
    return page.integer(_IMAGE_DEPTH, 1)


def _stated(page: Directory, *, alone: bool) -> int:
    """Return the number of consecutive planes that the directory states."""
    planes = page.entries.get(_UIC2)
    if planes is not None and planes.count > 1:
        return planes.count
    text = page.text(_DESCRIPTION)
    if text is None:
        return 1
    imagej = _IMAGEJ.match(text[1]) if alone else None
    if imagej is not None:
        return int(imagej["count"])
    shaped = _SHAPED.match(text[1])
    if shaped is None:
        return 1
    samples = prod(int(number) for number in shaped["shape"].split(b","))
    one = page.integer(_HEIGHT) * page.integer(_WIDTH) * page.integer(_SAMPLES, 1)
    return samples // one if one else 1


def _check_planes(page: Directory, stated: int, first: int, plane_bytes: int) -> int:
    """Return the number of planes in the file; 1 where a description was only copied."""
    # Any later part of the file ends the pixels: the directory, a tag's value.
    behind = [entry.offset for entry in page.entries.values() if entry.offset > first]
    there = max(0, min([len(page.body), *behind]) - first)
    if there >= stated * plane_bytes:
        return stated
    if there <= plane_bytes + _PADDING_BYTES:
        return 1
    raise InvalidImage(
        f"the TIFF is truncated: it states {stated} images of {plane_bytes} bytes in one directory "
        f"and has {there} bytes of image data, expected {stated * plane_bytes}"
    )


def _strips(page: Directory) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the offset and the size of each strip of the first image.

    Both are empty unless the image consists of consecutive, uncompressed strips.
    """
    nothing = np.empty(0, np.int64), np.empty(0, np.int64)
    if _TILE_WIDTH in page.entries or page.integer(_COMPRESSION, 1) != 1:
        return nothing
    offsets = page.integers(_STRIP_OFFSETS, _MAX_STRIPS)
    height, width, samples = page.integer(_HEIGHT), page.integer(_WIDTH), page.integer(_SAMPLES, 1)
    bits, is_planar = page.first_integer(_BITS, 1), page.integer(_PLANAR, 1) == 2
    rows = min(page.integer(_ROWS_PER_STRIP, height) or height, height)
    row_bytes = (width * (1 if is_planar else samples) * bits + 7) // 8
    per_channel = -(-height // rows) if rows else 0
    channels = samples if is_planar else 1
    count = per_channel * channels
    if offsets is None or not 0 < count <= len(offsets):
        return nothing
    starts = np.arange(per_channel, dtype=np.int64) * rows
    lengths = np.tile(np.minimum(rows, height - starts) * row_bytes, channels)
    offsets = offsets[:count]
    if (np.diff(offsets) != lengths[:-1]).any():
        return nothing
    return offsets, lengths


def _check_slices(page: Directory, slices: int) -> int:
    if page.integer(_TILE_DEPTH, 1) != 1:
        raise UnsuitableImage(
            f"the TIFF has {slices} slices in tiles of depth {page.integer(_TILE_DEPTH)}; expected "
            "tiles of one slice"
        )
    if page.integer(_PLANAR, 1) == 2 and page.integer(_SAMPLES, 1) > 1:
        raise UnsuitableImage(f"the TIFF has {slices} slices stored channel by channel")
    offsets, _ = _table_codes(page)
    entry = page.entries.get(offsets)
    expected = slices * _segments(page)
    if entry is None or entry.count < expected:
        raise InvalidImage(
            f"the TIFF states {slices} images in one directory (ImageDepth) and has "
            f"{0 if entry is None else entry.count} strips or tiles; expected {expected}"
        )
    return slices


def _slice_tables(page: Directory, index: int) -> dict[int, npt.NDArray[np.int64]]:
    count = _segments(page)
    tables: dict[int, npt.NDArray[np.int64]] = {}
    for code in _table_codes(page):
        numbers = page.integers(code, count, skip=index * count)
        if numbers is not None:
            tables[code] = numbers
    return tables


def _table_codes(page: Directory) -> tuple[int, int]:
    is_tiled = _TILE_WIDTH in page.entries
    return (_TILE_OFFSETS, _TILE_BYTES) if is_tiled else (_STRIP_OFFSETS, _STRIP_BYTES)


def _segments(page: Directory) -> int:
    """Return the number of strips or tiles of one slice."""
    height, width = page.integer(_HEIGHT), page.integer(_WIDTH)
    if _TILE_WIDTH in page.entries:
        down, across = page.integer(_TILE_HEIGHT), page.integer(_TILE_WIDTH)
        return -(-height // down) * -(-width // across) if down and across else 1
    rows = min(page.integer(_ROWS_PER_STRIP, height) or height, height)
    return -(-height // rows) if rows else 1
