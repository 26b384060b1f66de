"""PNG in: a strict walk over the chunks, a bounded inflation, then libpng on a stripped copy.

libpng (through imagecodecs) accepts truncated and surplus data, and Pillow cuts 16-bit colour to 8
bits; so the structure is checked here (order, lengths, CRCs, exact amount of image data) and libpng
sees only IHDR, a palette, tRNS, IDAT and IEND. Text and profile chunks are never inflated. Gamma
and colour profiles are ignored: grey levels are data. Interlaced files and all depths are read.
"""

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import imagecodecs
import numpy as np

from service.ground.errors import InvalidImage, UnsuitableImage
from service.images.codec.deflate import crc32, inflate
from service.images.codec.grey import grey_from_channels, grey_from_palette
from service.images.codec.image import DecodedImage, DecodeOptions, Pixels, check_size
from service.images.codec.png_encode import SIGNATURE, framed_chunk
from service.images.metadata.png import SIZE_CHUNKS, TEXT_CHUNKS, read_png_metadata

# Encoders write IDAT chunks of 8 KiB and more: 8,192 of them are 64 MiB of compressed image. The
# bound keeps a body made of millions of empty chunks from holding the interpreter for seconds.
_MAX_CHUNKS = 8_192

# libpng warns of the way in which imagecodecs requests interlaced rows, which are right: a log line
# for each such tile would be noise.
logging.getLogger("imagecodecs").addFilter(
    lambda record: "Interlace handling should be turned on" not in record.getMessage()
)

_CHUNK_HEAD = struct.Struct(">I4s")
_CRC = struct.Struct(">I")

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PALETTE = 3
_GREY_TYPES = frozenset({0, 4})  # which have no palette
# Adam7: first column, first row, column step, row step of each pass.
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    depth: int
    colour_type: int
    interlaced: bool

    @property
    def image_bytes(self) -> int:
        """The exact length of the inflated image data, filter bytes included."""
        bits = _SAMPLES[self.colour_type] * self.depth
        passes = _PASSES if self.interlaced else ((0, 0, 1, 1),)
        total = 0
        for column, row, step_x, step_y in passes:
            columns = -(-(self.width - column) // step_x)
            rows = -(-(self.height - row) // step_y)
            if columns > 0 and rows > 0:
                total += rows * (1 + (columns * bits + 7) // 8)
        return total


@dataclass(slots=True)
class _Chunks:
    """The chunks that decoding needs, as views of the body."""

    header: memoryview
    palette: memoryview | None = None
    transparency: memoryview | None = None
    image: list[memoryview] = field(default_factory=list[memoryview])
    ancillary: list[tuple[bytes, memoryview]] = field(
        default_factory=list[tuple[bytes, memoryview]]
    )


def decode_png(body: memoryview, options: DecodeOptions) -> DecodedImage:
    """Decode a PNG to grey.

    Raises:
        InvalidImage: The file breaks the PNG specification anywhere.
        UnsuitableImage: Animated, coloured or transparent.
        ImageTooLarge: More pixels than allowed.
    """
    header = _read_header(body)
    check_size(header.height, header.width, options.max_pixels)
    chunks = _read_chunks(body, header.colour_type)
    packed = b"".join(chunks.image)
    inflate(packed, header.image_bytes, "the PNG's image data")
    if header.colour_type == _PALETTE:
        pixels = _decode_palette(header, chunks, packed, options.max_rows)
    else:
        chunks.transparency = _transparency(header, chunks)
        chunks.palette = None  # only a hint for displays here
        pixels = grey_from_channels(
            imagecodecs.png_decode(_rebuilt(chunks, packed))[: options.max_rows]
        )
    return DecodedImage(pixels, read_png_metadata(chunks.ancillary))


def _read_header(body: memoryview) -> _Header:
    if len(body) < 33:
        raise InvalidImage(f"the PNG ends after {len(body)} bytes, before its header is complete")
    length, kind = struct.unpack_from(">I4s", body, 8)
    if (length, kind) != (13, b"IHDR"):
        raise InvalidImage(f"the PNG's first chunk is {kind!r} of {length} bytes; expected IHDR")
    width, height, depth, colour_type, compression, filtering, interlacing = struct.unpack_from(
        ">IIBBBBB", body, 16
    )
    if max(width, height) >= 2**31:
        raise InvalidImage(f"the PNG claims {height}×{width} pixels; the format ends at 2^31 - 1")
    if depth not in _DEPTHS.get(colour_type, ()):
        raise InvalidImage(
            f"the PNG has colour type {colour_type} with {depth} bits a sample, "
            "which the format does not have"
        )
    if compression != 0 or filtering != 0 or interlacing > 1:
        raise InvalidImage(
            f"the PNG has compression {compression}, filter {filtering}, interlacing {interlacing}"
            "; expected 0, 0, and 0 or 1"
        )
    return _Header(width, height, depth, colour_type, interlacing == 1)


def _walk(body: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield type and data of each chunk up to IEND; check lengths, CRCs and what follows."""
    position, body_end = len(SIGNATURE), len(body)
    for _ in range(_MAX_CHUNKS):
        if position + 12 > body_end:
            raise InvalidImage(f"the PNG is truncated: it ends at byte {body_end} without IEND")
        length, kind = _CHUNK_HEAD.unpack_from(body, position)
        crc_at = position + 8 + length
        if not kind.isalpha():
            raise InvalidImage(f"the PNG is damaged: chunk type {kind!r} at byte {position}")
        if crc_at + 4 > body_end:
            raise InvalidImage(
                f"the PNG is truncated: its {kind.decode('ascii')} chunk at byte {position} needs "
                f"{length} bytes, the body ends after {body_end - position - 8}"
            )
        if crc32(body[position + 4 : crc_at]) != _CRC.unpack_from(body, crc_at)[0]:
            raise InvalidImage(
                f"the PNG is damaged: the CRC of its {kind.decode('ascii')} chunk at byte "
                f"{position} does not fit"
            )
        yield kind, body[position + 8 : crc_at]
        position = crc_at + 4
        if kind == b"IEND":
            if body[position:].tobytes().strip(b"\0"):
                raise InvalidImage(f"{body_end - position} bytes follow the end of the PNG")
            return
    raise InvalidImage(f"the PNG has more than {_MAX_CHUNKS} chunks")


def _read_chunks(body: memoryview, colour_type: int) -> _Chunks:
    chunks: _Chunks | None = None
    previous = b""
    for kind, data in _walk(body):
        if chunks is None:
            chunks = _Chunks(data)
        elif kind == b"IDAT":
            if chunks.image and previous != b"IDAT":
                raise InvalidImage("the PNG's IDAT chunks do not follow one another")
            chunks.image.append(data)
        elif kind == b"PLTE":
            repeated = chunks.palette is not None or chunks.image
            if repeated or colour_type in _GREY_TYPES or len(data) % 3 or not len(data):
                raise InvalidImage(f"the PNG has a misplaced or odd palette of {len(data)} bytes")
            chunks.palette = data
        elif kind == b"tRNS":
            # libpng keeps the first of several and skips one in the wrong place.
            early = colour_type == _PALETTE and chunks.palette is None
            if chunks.transparency is not None or chunks.image or early:
                raise InvalidImage("the PNG has a second or misplaced tRNS chunk")
            chunks.transparency = data
        elif kind == b"acTL":
            _check_still(data)
        elif kind in TEXT_CHUNKS or kind in SIZE_CHUNKS:
            chunks.ancillary.append((kind, data))
        elif kind == b"IHDR" or (kind != b"IEND" and kind[:1].isupper()):
            raise InvalidImage(f"the PNG has a second or unknown critical chunk, {kind!r}")
        previous = kind
    if chunks is None or not chunks.image:
        raise InvalidImage("the PNG has no image data (IDAT)")
    return chunks


def _check_still(animation: memoryview) -> None:
    frames = int.from_bytes(animation[:4], "big")
    if frames != 1:
        raise UnsuitableImage(f"the PNG is animated, with {frames} frames; expected one image")


def _transparency(header: _Header, chunks: _Chunks) -> memoryview | None:
    """Return the level of a tRNS chunk in the depth's bits; refuse what libpng would skip.

    The format has decoders ignore higher bits; libpng does, but with a warning.
    """
    if chunks.transparency is None:
        return None
    expected = {0: 2, 2: 6}.get(header.colour_type)
    if expected is None or len(chunks.transparency) != expected:
        raise InvalidImage(
            f"the PNG has colour type {header.colour_type} and a tRNS chunk of "
            f"{len(chunks.transparency)} bytes; expected {expected or 'none'}"
        )
    levels = np.frombuffer(chunks.transparency, ">u2") & ((1 << header.depth) - 1)
    return memoryview(levels.astype(">u2").tobytes())


def _decode_palette(
    header: _Header, chunks: _Chunks, packed: bytes, max_rows: int | None
) -> Pixels:
    """Decode the indices themselves: libpng paints an index beyond the palette black."""
    if chunks.palette is None:
        raise InvalidImage("the PNG has colour type 3 but no palette (PLTE)")
    entries = 1 << header.depth
    palette = np.frombuffer(chunks.palette, np.uint8).reshape(-1, 3)
    alpha = None
    if chunks.transparency is not None:
        alpha = np.frombuffer(chunks.transparency, np.uint8)
    if len(palette) > entries or (alpha is not None and len(alpha) > len(palette)):
        raise InvalidImage(
            f"the PNG's palette has {len(palette)} entries and its tRNS "
            f"{0 if alpha is None else len(alpha)}; expected at most {entries}"
        )
    identity = np.repeat(np.arange(entries, dtype=np.uint8), 3).tobytes()
    plain = _Chunks(chunks.header, palette=memoryview(identity))
    indices = imagecodecs.png_decode(_rebuilt(plain, packed))
    return grey_from_palette(np.ascontiguousarray(indices[:max_rows, :, 0]), palette, alpha)


def _rebuilt(chunks: _Chunks, packed: bytes) -> bytes:
    """Return a PNG of the critical chunks only."""
    parts = [SIGNATURE, framed_chunk(b"IHDR", chunks.header)]
    if chunks.palette is not None:
        parts.append(framed_chunk(b"PLTE", chunks.palette))
    if chunks.transparency is not None:
        parts.append(framed_chunk(b"tRNS", chunks.transparency))
    parts += [framed_chunk(b"IDAT", packed), framed_chunk(b"IEND", b"")]
    return b"".join(parts)
