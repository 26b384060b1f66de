"""TIFF in: one grey page, in strips or tiles, as SEM tools and microscopy libraries write it.

Read: 1, 2, 4 and 8 bits, 16 bits, unsigned; white-is-zero (inverted, so that bright is high; 16
bits are inverted where the window narrows them), black-is-zero, RGB, palette; with opaque alpha;
contiguous or planar; uncompressed, LZW, deflate, PackBits or Zstandard, with or without horizontal
prediction; classic and Big TIFF of both byte orders. The orientation tag is ignored, like a
JPEG's. Every strip is decoded into a buffer of the size that the header implies, so no strip can
grow.
"""

import contextlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.ground.errors import InvalidImage, UnsuitableImage
from service.images.codec.grey import check_opaque, grey_from_channels, grey_from_palette
from service.images.codec.image import DecodedImage, DecodeOptions, Pixels, check_size
from service.images.codec.tiff_pages import read_pages
from service.images.codec.tiff_segments import Layout, read_samples
from service.images.codec.tiff_structure import Directory
from service.images.metadata import ImageMetadata
from service.images.metadata.tiff import (
    RESOLUTION_UNIT,
    TEXT_TAGS,
    X_RESOLUTION,
    Y_RESOLUTION,
    Resolution,
    read_tiff_metadata,
)

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_SAMPLES, _PLANAR, _PREDICTOR, _COLOUR_MAP = 277, 284, 317, 320
_NO_UNIT, _INCH = 1, 2
_TILE_WIDTH, _TILE_HEIGHT, _ROWS_PER_STRIP, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 322, 323, 278, 338, 339

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = 0, 1, 2, 3
_CHANNELS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1}
_UNSIGNED = frozenset({1, 4})  # unsigned integers, and those whose kind is not stated
_FORMATS = {2: "signed integers", 3: "floating point", 5: "complex integers", 6: "complex floats"}
_MAX_SAMPLES = 8  # of which more than four are refused in any case
_UNSPECIFIED, _ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Kind:
    """Meaning of the samples of a page."""

    bits: int
    photometric: int
    samples: int
    has_alpha: bool


def decode_tiff(body: memoryview, options: DecodeOptions) -> DecodedImage:
    """Decode a TIFF to grey.

    Raises:
        InvalidImage: Truncated or damaged.
        UnsuitableImage: Several pages, other sample types, unread compression, colour or
            transparency.
        ImageTooLarge: More pixels than allowed.
    """
    pages = read_pages(body)
    if len(pages) != 1:
        hint = " (a batch, or a scan of the file, reads them all)" if pages else ""
        raise UnsuitableImage(f"the TIFF holds {len(pages)} images; expected one{hint}")
    return decode_page(pages[0], options)


def decode_page(page: Directory, options: DecodeOptions) -> DecodedImage:
    """Decode one page to grey; raises as `decode_tiff`, and the errors of the decompressors."""
    height, width = page.integer(_HEIGHT), page.integer(_WIDTH)
    check_size(height, width, options.max_pixels)
    kind = _read_kind(page)
    layout = _read_layout(page, kind, height, width)
    pixels = _grey(page, kind, read_samples(page, layout)[: options.max_rows])
    # At 16 bits only the window says which value is black: `service.images.window` inverts then.
    inverted = kind.photometric == _WHITE_IS_ZERO and kind.bits == 16
    return DecodedImage(pixels, _read_metadata(page), white_is_zero=inverted)


def _read_kind(page: Directory) -> _Kind:
    samples = page.integer(_SAMPLES, 1)
    bits = page.integers(_BITS, _MAX_SAMPLES)
    depths: set[int] = {1} if bits is None else set(bits.tolist())
    if bits is not None and 1 < len(bits) < samples:
        raise InvalidImage(f"the TIFF states the bits of {len(bits)} of its {samples} samples")
    formats = page.integers(_SAMPLE_FORMAT, _MAX_SAMPLES)
    for value in () if formats is None else formats.tolist():
        if value not in _UNSIGNED:
            raise UnsuitableImage(
                f"the TIFF holds {_FORMATS.get(value, f'samples of format {value}')} of "
                f"{max(depths)} bits; expected unsigned integers of 8 or 16 bits"
            )
    # Without a default: readers that assume one disagree, and read the negative of one another.
    photometric = page.integer(_PHOTOMETRIC)
    channels = _CHANNELS.get(photometric)
    if channels is None:
        raise UnsuitableImage(
            f"the TIFF has photometric interpretation {photometric}; expected grey (0, 1), RGB (2) "
            "or palette (3)"
        )
    allowed = {8, 16} if samples > 1 or photometric == _RGB else {1, 2, 4, 8, 16}
    if len(depths) != 1 or not depths <= allowed or (photometric == _PALETTE and 16 in depths):
        raise UnsuitableImage(
            f"the TIFF has {sorted(depths)} bits a sample and {samples} samples a pixel; expected "
            f"one of {sorted(allowed)}"
        )
    if samples not in {channels, channels + 1}:
        raise UnsuitableImage(
            f"the TIFF has {samples} samples a pixel with photometric interpretation {photometric};"
            f" expected {channels}, or one more for alpha"
        )
    return _Kind(depths.pop(), photometric, samples, has_alpha=samples > channels)


def _read_layout(page: Directory, kind: _Kind, height: int, width: int) -> Layout:
    if page.integer(_FILL_ORDER, 1) != 1:
        raise UnsuitableImage("the TIFF stores its bits in reverse (FillOrder 2); expected 1")
    planar = page.integer(_PLANAR, 1)
    if planar not in {1, 2}:
        raise InvalidImage(f"the TIFF has planar configuration {planar}; expected 1 or 2")
    is_tiled = _TILE_WIDTH in page.entries
    if is_tiled != (_TILE_HEIGHT in page.entries):
        # libtiff takes such a file for tiled, others for one of strips.
        raise InvalidImage("the TIFF has one side of its tiles only; expected both or neither")
    rows = page.integer(_ROWS_PER_STRIP, height)
    if not 0 < rows < 1 << 32:  # 2^32 - 1 says that there is one strip
        raise InvalidImage(f"the TIFF has {rows} rows in a strip; expected 1 to 2^32 - 1")
    return Layout(
        height=height,
        width=width,
        bits=kind.bits,
        samples=1 if planar == 2 else kind.samples,
        planes=kind.samples if planar == 2 else 1,
        segment_height=page.integer(_TILE_HEIGHT) if is_tiled else min(rows, height),
        segment_width=page.integer(_TILE_WIDTH) if is_tiled else width,
        is_tiled=is_tiled,
        compression=page.integer(_COMPRESSION, 1),
        predictor=page.integer(_PREDICTOR, 1),
    )


def _grey(page: Directory, kind: _Kind, samples: npt.NDArray[np.uint8 | np.uint16]) -> Pixels:
    """Return (H, W) grey from (H, W, samples)."""
    if kind.has_alpha:
        _check_extra(page, samples[..., -1])
        samples = samples[..., :-1]
    if kind.photometric == _PALETTE:
        indices = samples[..., 0].astype(np.uint8, copy=False)
        return grey_from_palette(np.ascontiguousarray(indices), _read_palette(page, kind.bits))
    grey = grey_from_channels(samples)
    if kind.bits < 8:
        grey = grey * np.uint8(255 // ((1 << kind.bits) - 1))
    if kind.photometric == _WHITE_IS_ZERO and kind.bits < 16:
        grey = np.invert(grey)
    return grey


def _check_extra(page: Directory, channel: npt.NDArray[np.uint8 | np.uint16]) -> None:
    """Refuse an extra channel that is not constant."""
    meaning = page.integer(_EXTRA_SAMPLES, 0)
    if meaning not in {_UNSPECIFIED, _ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA}:
        raise InvalidImage(f"the TIFF's extra channel has the meaning {meaning}; expected 0 to 2")
    if meaning in {_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA}:
        check_opaque(channel)
    elif (channel != channel[0, 0]).any():
        raise UnsuitableImage(
            "the TIFF has an extra channel without a stated meaning, and it is not constant; "
            "expected one grey channel"
        )


def _read_palette(page: Directory, bits: int) -> npt.NDArray[np.uint8]:
    """Return the colour map as (2^bits, 3) uint8; the file has 16 bits, of which 8 are in use."""
    colour_map = page.integers(_COLOUR_MAP, (3 << bits) + 1)
    if colour_map is None or len(colour_map) != 3 << bits:
        count = 0 if colour_map is None else len(colour_map)
        raise InvalidImage(f"the TIFF's colour map has {count} values; expected {3 << bits}")
    levels = colour_map.reshape(3, -1).T
    # Some writers store 8-bit levels as they are; the specification multiplies them by 256 or 257.
    shift = 8 if int(levels.max()) > 255 else 0
    return np.ascontiguousarray((levels >> shift).astype(np.uint8))


def _read_metadata(page: Directory) -> ImageMetadata:
    texts = {code: page.text(code) for code in TEXT_TAGS if code in page.entries}
    unit = _NO_UNIT
    with contextlib.suppress(InvalidImage):  # a damaged unit leaves the pixels beyond doubt
        unit = page.integer(RESOLUTION_UNIT, _INCH)
    resolution = Resolution(page.rational(X_RESOLUTION), page.rational(Y_RESOLUTION), unit)
    return read_tiff_metadata(
        {code: text for code, text in texts.items() if text is not None}, resolution
    )
