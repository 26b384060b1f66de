"""A file without what says nothing of its pixels: texts, colour profiles, densities, vendor tags.

Our codec never lets a decoder parse these, so that damage in them costs no picture; a strict
decoder stumbles over them. Then it gets this copy, and must find the same pixels in it.
"""

import struct
import zlib

# What stands in a TIFF's directory about its pixels; every other tag goes.
_PIXEL_TAGS = frozenset(
    {
        254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325,
        338, 339, 32997,
    }
)  # fmt: skip
_MOST_DIRECTORIES = 16
_SOS, _APP0, _APP14, _APP15, _COM = 0xDA, 0xE0, 0xEE, 0xEF, 0xFE


def essential(body: bytes, media_type: str) -> bytes:
    """Return a copy without what says nothing of the pixels; the body itself where nothing does."""
    try:
        if media_type == "image/png":
            return _png(body)
        if media_type == "image/jpeg":
            return _jpeg(body)
        if media_type == "image/tiff":
            return _tiff(body)
    except (struct.error, IndexError, OverflowError):
        pass  # too damaged to take anything out of it
    return body


def _png(body: bytes) -> bytes:
    """Take out ancillary chunks but for tRNS; their names begin with a small letter.

    libpng ignores the bits of a tRNS level beyond the depth but warns of them: they are cleared.
    """
    kept, at = [body[:8]], 8
    while at + 12 <= len(body):
        length, kind = struct.unpack_from(">I4s", body, at)
        end = at + 12 + length
        if kind == b"tRNS" and body[25] in {0, 2}:
            kept.append(_in_depth(body[at:end], body[24]))
        elif kind == b"tRNS" or not kind[:1].islower():
            kept.append(body[at:end])
        at = end
    return b"".join([*kept, body[at:]])


def _in_depth(chunk: bytes, depth: int) -> bytes:
    """Return a tRNS chunk with its levels in the depth's bits; as it is where it is damaged."""
    named, (crc,) = chunk[4:-4], struct.unpack(">I", chunk[-4:])
    if zlib.crc32(named) != crc or len(named) % 2:
        return chunk
    levels = struct.unpack(f">{len(named) // 2 - 2}H", named[4:])
    cleared = named[:4] + b"".join(
        struct.pack(">H", level & ((1 << depth) - 1)) for level in levels
    )
    return chunk[:4] + cleared + struct.pack(">I", zlib.crc32(cleared))


def _jpeg(body: bytes) -> bytes:
    """Take out comments and the segments of applications but for Adobe's, which states colours."""
    kept, at = [body[:2]], 2
    while body[at] == 0xFF and body[at + 1] != _SOS:
        marker = body[at + 1]
        end = at + 1 if marker == 0xFF else at + 2 + struct.unpack_from(">H", body, at + 2)[0]
        if marker != _COM and (marker == _APP14 or not _APP0 <= marker <= _APP15):
            kept.append(body[at:end])
        at = end
    return b"".join([*kept, body[at:]])


def _tiff(body: bytes) -> bytes:
    """Take other tags out of each directory, and repeated ones, of which the first counts; sort it.

    Nothing moves that an offset points at. libtiff takes a colour map only behind the depth.
    """
    order = "<" if body[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", body, 2)[0] == 43
    count_kind, link_kind, entry_bytes = ("Q", "Q", 20) if big else ("H", "I", 12)
    copy = bytearray(body)
    (at,) = struct.unpack_from(order + link_kind, body, 8 if big else 4)
    for _ in range(_MOST_DIRECTORIES):
        (count,) = struct.unpack_from(order + count_kind, body, at)
        first = at + struct.calcsize(count_kind)
        link_at = first + count * entry_bytes
        entries = [
            body[entry : entry + entry_bytes] for entry in range(first, link_at, entry_bytes)
        ]
        kept = _pixel_entries(entries, order)
        link = body[link_at : link_at + struct.calcsize(link_kind)]
        whole = struct.pack(order + count_kind, len(kept)) + b"".join(kept) + link
        copy[at : link_at + len(link)] = whole.ljust(link_at + len(link) - at, b"\0")
        (at,) = struct.unpack(order + link_kind, link)
        if not at:
            break
    return bytes(copy)


def _pixel_entries(entries: list[bytes], order: str) -> list[bytes]:
    """Return the first entry of each tag that says how pixels lie; single bytes as SHORT.

    libtiff takes a number of any integer type, tifffile takes a BYTE for text.
    """
    kept: dict[int, bytes] = {}
    for entry in entries:
        code, kind = struct.unpack_from(order + "HH", entry)
        value_at = 8 if len(entry) == 12 else 12  # after code, type and count
        head, value = entry[:value_at], entry[value_at:]
        if code not in _PIXEL_TAGS or code in kept:
            continue
        if (
            kind == 1
            and struct.unpack(order + ("I" if len(entry) == 12 else "Q"), head[4:])[0] == 1
        ):
            value = struct.pack(order + "H", value[0]).ljust(len(value), b"\0")
            entry = entry[:2] + struct.pack(order + "H", 3) + head[4:] + value
        kept[code] = entry
    return [entry for _, entry in sorted(kept.items())]
