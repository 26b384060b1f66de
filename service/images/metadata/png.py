"""PNG chunks to `ImageMetadata` and back.

Read: sCAL (metres per pixel, exact), OME-XML in a text chunk, pHYs (pixels per metre), in this
order; tEXt, zTXt, iTXt and tIME are copied as raw chunks and never inflated. Written: pHYs and sCAL
from the pixel size (pHYs holds whole numbers of pixels per metre and ends at 0.47 nm), then the
chunks. TIFF tags with a registered PNG keyword become text chunks.
"""

import re
import struct
from collections.abc import Iterable

from service.images.metadata.image_metadata import Allowance, ImageMetadata, PngChunk
from service.images.metadata.imagej import is_imagej, without_shape
from service.images.metadata.ome import is_ome, read_ome
from service.images.metadata.pixel_size import NM_PER_M, PixelSize
from service.images.metadata.rewriting import NUMBER

TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"tIME"})
SIZE_CHUNKS = frozenset({b"pHYs", b"sCAL"})

_MAX_CHUNKS = 256
_PHYS_MAX = 2**31 - 1
_UNIT_METRE = 1
_SCAL = re.compile(rb"\x01(?P<x>" + NUMBER + rb")\0(?P<y>" + NUMBER + rb")")

# Registered PNG keywords (PNG specification, third edition, 11.3.3.2) for TIFF's own tags.
_KEYWORD_BY_TAG = {
    270: b"Description",
    272: b"Source",
    305: b"Software",
    306: b"Creation Time",
    315: b"Author",
    33432: b"Copyright",
}


def read_png_metadata(chunks: Iterable[tuple[bytes, memoryview]]) -> ImageMetadata:
    """Read the metadata from a PNG's ancillary chunks.

    Args:
        chunks: Type and data of each chunk whose type is in `TEXT_CHUNKS` or `SIZE_CHUNKS`.
    """
    allowance = Allowance()
    carried: list[PngChunk] = []
    sizes: dict[str, PixelSize | None] = {}
    for kind, data in chunks:
        name = f"PNG {kind.decode('ascii')}"
        if kind == b"pHYs":
            sizes.setdefault("png-phys", _read_phys(data))
        elif kind == b"sCAL":
            sizes.setdefault("png-scal", _read_scal(data))
        elif len(carried) < _MAX_CHUNKS and allowance.admits(name, len(data)):
            chunk = PngChunk(kind, bytes(data))
            carried.append(chunk)
            if is_ome(chunk.data):
                sizes.setdefault("ome", read_ome(chunk.data))
    for source in ("png-scal", "ome", "png-phys"):
        size = sizes.get(source)
        if size is not None:
            return ImageMetadata(size, source, tuple(carried), (), tuple(allowance.dropped))
    return ImageMetadata(png_chunks=tuple(carried), dropped=tuple(allowance.dropped))


def png_chunks(metadata: ImageMetadata) -> list[PngChunk]:
    """Return the ancillary chunks of an answer, to be written before the image data."""
    chunks: list[PngChunk] = []
    if metadata.pixel_size is not None:
        chunks += _size_chunks(metadata.pixel_size)
    if metadata.png_chunks:
        return [*chunks, *metadata.png_chunks]
    for text in metadata.tiff_texts:
        keyword = _KEYWORD_BY_TAG.get(text.code)
        if keyword is None:
            continue
        value = text.value
        if text.code == 270:
            # Machine descriptions mean nothing to a PNG reader; pHYs holds the pixel size.
            value = b"" if is_ome(value) or is_imagej(value) else without_shape(value)
        value = value.rstrip(b"\0")
        if value and b"\0" not in value:
            chunks.append(_text_chunk(keyword, value))
    return chunks


def latin1_texts(metadata: ImageMetadata) -> dict[str, str]:
    """Return the uncompressed text chunks by keyword; the first of a keyword wins."""
    texts: dict[str, str] = {}
    for chunk in metadata.png_chunks:
        keyword, _, rest = chunk.data.partition(b"\0")
        if chunk.kind == b"tEXt":
            text = rest.decode("latin-1")
        elif chunk.kind == b"iTXt" and rest[:1] == b"\0" and rest.count(b"\0") >= 4:
            # Compression flag and method, then two NUL-terminated names, then UTF-8.
            text = rest[2:].split(b"\0", 2)[2].decode("utf-8", "replace")
        else:
            continue
        texts.setdefault(keyword.decode("latin-1"), text)
    return texts


def _read_phys(data: memoryview) -> PixelSize | None:
    if len(data) != 9:
        return None
    x_per_unit, y_per_unit, unit = struct.unpack(">IIB", data)
    return PixelSize.from_density(x_per_unit, y_per_unit) if unit == _UNIT_METRE else None


def _read_scal(data: memoryview) -> PixelSize | None:
    match = _SCAL.fullmatch(data) if len(data) <= 128 else None
    if match is None:
        return None
    return PixelSize.sane(float(match["x"]) * NM_PER_M, float(match["y"]) * NM_PER_M)


def _size_chunks(size: PixelSize) -> list[PngChunk]:
    chunks: list[PngChunk] = []
    x_per_m, y_per_m = round(NM_PER_M / size.x_nm), round(NM_PER_M / size.y_nm)
    if min(x_per_m, y_per_m) >= 1 and max(x_per_m, y_per_m) <= _PHYS_MAX:
        chunks.append(PngChunk(b"pHYs", struct.pack(">IIB", x_per_m, y_per_m, _UNIT_METRE)))
    metres = f"\x01{size.x_nm / NM_PER_M:.9g}\0{size.y_nm / NM_PER_M:.9g}"
    chunks.append(PngChunk(b"sCAL", metres.encode("ascii")))
    return chunks


def _text_chunk(keyword: bytes, value: bytes) -> PngChunk:
    """Return a tEXt chunk where Latin-1 can hold the text, an iTXt chunk otherwise."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return PngChunk(b"tEXt", keyword + b"\0" + value)
    try:
        return PngChunk(b"tEXt", keyword + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return PngChunk(b"iTXt", keyword + b"\0\0\0\0\0" + value)
