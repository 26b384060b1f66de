"""Carried texts by vendor: the pixel size that each states, and its rescaled form.

A statement stays only if it was understood to its end and is the pixel size of the image
(`agrees`). Statements that are not understood or contradict it, and free text that seems to
state a pixel size in its own words, are dropped: a wrong number is worse than none.
"""

import functools
import zlib
from collections.abc import Callable

from service.images.metadata.fei import read_fei, read_fei_xml, rescale_fei, rescale_fei_xml
from service.images.metadata.imagej import is_imagej, rescale_imagej, without_shape
from service.images.metadata.ome import is_ome, read_ome, rescale_ome
from service.images.metadata.pixel_size import PixelSize
from service.images.metadata.rewriting import Rescaling, rewritten, states_size, without_sizes
from service.images.metadata.zeiss import read_zeiss, rescale_zeiss

_DESCRIPTION = 270
_READ: dict[int, Callable[[bytes], PixelSize | None]] = {
    34118: read_zeiss,
    34680: read_fei,
    34682: read_fei,
    34683: read_fei_xml,
}
_RESCALE: dict[int, Callable[[bytes, Rescaling], bytes]] = {
    34118: rescale_zeiss,
    34680: rescale_fei,
    34682: rescale_fei,
    34683: rescale_fei_xml,
}
# Two statements of one size differ by what tools round to; more is another size.
_ROUNDING = 0.005
# Length limit of an unpacked text; see `image_metadata.MAX_ITEM_BYTES`.
_MAX_UNPACKED_BYTES = 64 * 1024


def rescaled_text(code: int, value: bytes, rescaling: Rescaling, size: PixelSize | None) -> bytes:
    """Return the value of a TIFF tag with its statements rescaled or dropped.

    Args:
        code: Number of the tag.
        value: Bytes of the tag.
        rescaling: Factors for statements that are understood.
        size: Pixel size of the input image, or None where unknown.

    Returns:
        The bytes in their encoding; empty to drop the tag.
    """
    if code in _RESCALE:
        rewrite = functools.partial(_vendor, code, rescaling=rescaling, size=size)
    elif code == _DESCRIPTION:
        rewrite = functools.partial(_description, rescaling=rescaling, size=size)
    else:
        rewrite = without_sizes
        if b"\0" in value.rstrip(b"\0"):
            return value if not states_size(value) else b""  # several strings in one tag
    return rewritten(value, rewrite)


def rescaled_chunk(kind: bytes, data: bytes, rescaling: Rescaling, size: PixelSize | None) -> bytes:
    """Return the data of a PNG text chunk with its statements rescaled or dropped.

    A compressed text is unpacked for a check, within bounds, and kept or dropped as a whole.
    """
    keyword, _, rest = data.partition(b"\0")
    if kind == b"tIME":
        return data
    if states_size(keyword):
        return b""
    if kind == b"iTXt":
        if rest[:1] == b"\0" and rest.count(b"\0") >= 4:
            # Compression flag and method, language, translated keyword: each ends with a NUL.
            language, translated, text = rest[2:].split(b"\0", 2)
            head = keyword + b"\0\0\0" + language + b"\0" + translated + b"\0"
            return _chunk(head, text, rescaling, size)
        rest = rest[2:].split(b"\0", 2)[-1]
    elif kind == b"tEXt":
        return _chunk(keyword + b"\0", rest, rescaling, size)
    else:
        rest = rest[1:]
    unpacked = _unpacked(rest)
    return b"" if unpacked is None or states_size(unpacked) else data


def _chunk(head: bytes, text: bytes, rescaling: Rescaling, size: PixelSize | None) -> bytes:
    new = _description(text, rescaling=rescaling, size=size)
    return head + new if new or not text else b""


def _unpacked(packed: bytes) -> bytes | None:
    """Return the content of a zlib stream, or None if it is damaged or long."""
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(packed, _MAX_UNPACKED_BYTES)
    except zlib.error:
        return None
    return text if stream.eof else None


def _vendor(code: int, text: bytes, *, rescaling: Rescaling, size: PixelSize | None) -> bytes:
    agrees = _agrees(_READ[code](text), size)
    return _RESCALE[code](text, rescaling if agrees else rescaling.without_sizes)


def _description(text: bytes, *, rescaling: Rescaling, size: PixelSize | None) -> bytes:
    if is_imagej(text):
        return rescale_imagej(text, rescaling)
    if is_ome(text):
        agrees = _agrees(read_ome(text), size)
        return rescale_ome(text, rescaling if agrees else rescaling.without_sizes)
    return without_sizes(without_shape(text))


def _agrees(stated: PixelSize | None, size: PixelSize | None) -> bool:
    """Whether a text states the pixel size of the image, except for rounding."""
    if stated is None or size is None:
        return False
    return (
        abs(stated.x_nm / size.x_nm - 1) <= _ROUNDING
        and abs(stated.y_nm / size.y_nm - 1) <= _ROUNDING
    )
