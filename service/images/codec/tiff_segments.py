"""Finds, checks, decompresses and joins the strips and tiles of a TIFF page.

A file without compression whose strips follow one another (as SEM tools write it) becomes one view
of the body; everything else is decoded strip by strip into its place.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.ground.errors import InvalidImage, UnsuitableImage
from service.images.codec.tiff_compression import MAX_GROWTH, NO_COMPRESSION, UNPACKERS
from service.images.codec.tiff_structure import Directory

_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES = 273, 279, 324, 325

_NO_PREDICTOR, _HORIZONTAL = 1, 2

# One row a strip on the tallest camera image is 16,384 of them; each costs a few microseconds.
_MAX_SEGMENTS = 16_384
_HEADER_BYTES = 8
_PADDING_BYTES = 3
# Tiles are 64 to 1024 pixels wide in practice. A tile may be larger than a small image, so its own
# size must be bounded before a buffer is made for it.
_MAX_TILE_PIXELS = 2048 * 2048


@dataclass(frozen=True, slots=True)
class Layout:
    """Layout of the samples of a page in the file.

    Attributes:
        height: Rows of the image.
        width: Columns of the image.
        bits: Bits per sample: 1, 2, 4, 8 or 16.
        samples: Samples per pixel within one segment.
        planes: Planes that follow one another, each with its own segments.
        segment_height: Rows of a strip or tile.
        segment_width: Columns of a strip (the width of the image) or tile.
        is_tiled: Whether segments are tiles, which are padded to full size, unlike the last strip.
        compression: TIFF's number of the compression.
        predictor: 1 none, 2 horizontal differences.
    """

    height: int
    width: int
    bits: int
    samples: int
    planes: int
    segment_height: int
    segment_width: int
    is_tiled: bool
    compression: int
    predictor: int

    @property
    def is_compressed(self) -> bool:
        """Whether its segments must be decompressed."""
        return self.compression != NO_COMPRESSION

    @property
    def down(self) -> int:
        """Number of segments from top to bottom."""
        return -(-self.height // self.segment_height)

    @property
    def across(self) -> int:
        """Number of segments from left to right."""
        return -(-self.width // self.segment_width)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of one segment."""
        return (self.segment_width * self.samples * self.bits + 7) // 8


def read_samples(page: Directory, layout: Layout) -> npt.NDArray[np.uint8 | np.uint16]:
    """Return all samples as (H, W, samples × planes), uint8 or uint16 in native byte order.

    Samples of less than 8 bits keep their small values. Without compression the result may be a
    read-only view of the body.

    Raises:
        InvalidImage: A segment lies beyond the file, is damaged or too short.
        UnsuitableImage: A compression or predictor that is not read.
    """
    _check(layout)
    count = layout.down * layout.across * layout.planes
    offsets, lengths = _read_table(page, layout, count)
    _check_growth(layout, sum(lengths))
    whole = _contiguous_view(page, layout, offsets, lengths)
    if whole is not None:
        return whole
    dtype = np.uint16 if layout.bits == 16 else np.uint8
    image = np.empty((layout.height, layout.width, layout.planes * layout.samples), dtype)
    for index in range(count):
        plane, place = divmod(index, layout.down * layout.across)
        row, column = divmod(place, layout.across)
        top, left = row * layout.segment_height, column * layout.segment_width
        height = min(layout.segment_height, layout.height - top)
        width = min(layout.segment_width, layout.width - left)
        stored = layout.segment_height if layout.is_tiled else height
        packed = page.body[offsets[index] : offsets[index] + lengths[index]]
        data = _unpack(packed, layout, stored * layout.row_bytes, index)
        samples = _samples(data, layout, page.byte_order, stored)
        channels = slice(plane * layout.samples, (plane + 1) * layout.samples)
        image[top : top + height, left : left + width, channels] = samples[:height, :width]
    return image


def _check(layout: Layout) -> None:
    if layout.segment_height < 1 or layout.segment_width < 1:
        raise InvalidImage(
            f"the TIFF has strips or tiles of {layout.segment_height}×{layout.segment_width} pixels"
        )
    if layout.is_tiled and layout.segment_height * layout.segment_width > _MAX_TILE_PIXELS:
        raise UnsuitableImage(
            f"the TIFF has tiles of {layout.segment_height}×{layout.segment_width} pixels; "
            f"expected at most {_MAX_TILE_PIXELS} pixels in one"
        )
    if layout.down * layout.across * layout.planes > _MAX_SEGMENTS:
        raise UnsuitableImage(
            f"the TIFF has {layout.down * layout.across * layout.planes} strips or tiles; expected "
            f"at most {_MAX_SEGMENTS}"
        )
    if layout.is_compressed and layout.compression not in UNPACKERS:
        raise UnsuitableImage(
            f"the TIFF has compression {layout.compression}; expected 1 (none), 5 (LZW), 8 or 32946"
            " (deflate), 32773 (PackBits) or 50000 (Zstandard)"
        )
    if layout.predictor not in {_NO_PREDICTOR, _HORIZONTAL} or (
        layout.predictor == _HORIZONTAL and layout.bits < 8
    ):
        raise UnsuitableImage(f"the TIFF has predictor {layout.predictor} at {layout.bits} bits")
    if layout.predictor == _HORIZONTAL and not layout.is_compressed:
        raise InvalidImage("the TIFF has predictor 2 without compression; readers disagree on it")


def _read_table(page: Directory, layout: Layout, count: int) -> tuple[list[int], list[int]]:
    """Return offset and size of each segment, checked against the size of the file."""
    # One more than expected: a table that names other strips was made for another image size.
    offsets = page.integers(_TILE_OFFSETS if layout.is_tiled else _STRIP_OFFSETS, count + 1)
    lengths = page.integers(_TILE_BYTES if layout.is_tiled else _STRIP_BYTES, count + 1)
    if lengths is None and offsets is not None and not layout.is_compressed and count == 1:
        # Old writers leave out the byte count of one strip; without compression it follows from the
        # size.
        lengths = np.array([layout.height * layout.row_bytes])
    if offsets is None or lengths is None or not len(offsets) == len(lengths) == count:
        raise InvalidImage(
            f"the TIFF names {0 if offsets is None else len(offsets)} offsets and "
            f"{0 if lengths is None else len(lengths)} byte counts of strips or tiles; expected "
            f"{count}"
        )
    start, end = page.span
    over = (offsets < _HEADER_BYTES) | ((offsets < end) & (offsets + lengths > start))
    if over.any():
        raise InvalidImage(
            f"the TIFF has a strip or tile at byte {int(offsets[over][0])}, over its header or its "
            "directory"
        )
    beyond = np.flatnonzero(offsets + lengths > len(page.body))
    if len(beyond):
        first = int(beyond[0])
        raise InvalidImage(
            f"the TIFF is truncated: strip or tile {first} takes {int(lengths[first])} bytes from "
            f"byte {int(offsets[first])}, the body has {len(page.body)}"
        )
    return offsets.tolist(), lengths.tolist()


def _check_growth(layout: Layout, packed_bytes: int) -> None:
    """Reject a small file that claims a large image, before memory is taken for the image."""
    image_bytes = (
        layout.height * layout.planes * ((layout.width * layout.samples * layout.bits) // 8)
    )
    if packed_bytes * MAX_GROWTH[layout.compression] < image_bytes:
        raise InvalidImage(
            f"the TIFF has {packed_bytes} bytes of image data (compression {layout.compression}), "
            f"too few for the {image_bytes} bytes of its header"
        )


def _contiguous_view(
    page: Directory, layout: Layout, offsets: list[int], lengths: list[int]
) -> npt.NDArray[np.uint8 | np.uint16] | None:
    """Return the samples as one view where uncompressed strips follow one another, else None."""
    if (
        layout.is_compressed
        or layout.is_tiled
        or layout.planes > 1
        or layout.bits < 8
        or layout.predictor != _NO_PREDICTOR
    ):
        return None
    strip_bytes = layout.segment_height * layout.row_bytes
    follow = np.arange(len(offsets)) * strip_bytes + offsets[0]
    total = layout.height * layout.row_bytes
    if offsets != follow.tolist() or sum(lengths) != total:
        return None
    return _samples(
        page.body[offsets[0] : offsets[0] + total], layout, page.byte_order, layout.height
    )


def _samples(
    data: bytes | memoryview, layout: Layout, byte_order: str, rows: int
) -> npt.NDArray[np.uint8 | np.uint16]:
    """Return one segment's bytes as (rows, segment width, samples), prediction undone."""
    values: npt.NDArray[Any]
    if layout.bits < 8:
        packed = np.frombuffer(data, np.uint8, rows * layout.row_bytes).reshape(rows, -1)
        values = _unpacked_bits(packed, layout.bits)
        values = values[:, : layout.segment_width * layout.samples]
    else:
        dtype = np.dtype("u1" if layout.bits == 8 else byte_order + "u2")
        count = rows * layout.segment_width * layout.samples
        values = np.frombuffer(data, dtype, count).astype(dtype.newbyteorder("="), copy=False)
    values = values.reshape(rows, layout.segment_width, layout.samples)
    if layout.predictor == _HORIZONTAL:
        values = np.cumsum(values, axis=1, dtype=values.dtype)
    return values


def _unpacked_bits(packed: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Return samples of 1, 2 or 4 bits, most significant first, one to a byte."""
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    spread = (packed[..., np.newaxis] >> shifts) & np.uint8((1 << bits) - 1)
    return spread.reshape(len(packed), -1)


def _unpack(
    packed: memoryview, layout: Layout, expected_bytes: int, index: int
) -> bytes | memoryview:
    """Return at least `expected_bytes` bytes of a segment; no decoder writes much more than that.

    Some writers fill the last strip to its full height, or add a row, or round the length of what
    is not compressed up to four bytes or to a sector: surplus that cannot mean another width
    passes.
    """
    limit_bytes = (layout.segment_height + 1) * layout.row_bytes
    if not layout.is_compressed:
        data, padding_bytes = packed, _PADDING_BYTES
    else:
        data, padding_bytes = UNPACKERS[layout.compression](packed, limit_bytes + 1), 0
        if len(data) > limit_bytes:
            raise InvalidImage(
                f"strip or tile {index} of the TIFF unpacks to more than the {expected_bytes} bytes"
                " of its header"
            )
    surplus = len(data) - expected_bytes
    # Parts of a row mean that the width is another, and the picture would be sheared; but another
    # width is a byte more in each row at least.
    is_padding = not layout.is_compressed and surplus < expected_bytes // layout.row_bytes
    is_whole = surplus % layout.row_bytes <= padding_bytes and len(data) <= limit_bytes
    if surplus < 0 or not (is_whole or is_padding):
        raise InvalidImage(
            f"strip or tile {index} of the TIFF has {len(data)} bytes; expected {expected_bytes}"
        )
    return data
