"""The entries of a tar archive, read as it arrives: ustar, pax and GNU names; regular files only.

Python's `tarfile` parses the 512 bytes of a header and nothing more: its reader keeps every member
that it has seen, reads extended headers of any size into memory, follows sparse maps, and blocks.
The sizes in an archive are the attacker's. Nothing is ever written under an entry's name.
"""

import functools
import tarfile
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from service.errors import ImageTooLarge, InvalidImage, UnsuitableImage
from service.tile_stream.entries import Entry, Loaded, loaded_file, refused, usable_name
from service.tile_stream.upload import Upload

_BLOCK = tarfile.BLOCKSIZE
# Names and comments of one entry; what writers put there is a few hundred bytes.
_MAX_EXTENSION_BYTES = 65_536
# pax, GNU long name, GNU long link: no writer puts more before one entry.
_MAX_EXTENSIONS = 8
_MAX_SPARSE_BLOCKS = 64
# Where a GNU header, and a block of its sparse map, say that another such block follows.
_SPARSE_HEADER_EXTENDED, _SPARSE_BLOCK_EXTENDED = 482, 504

_PAX = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE})
_IGNORED = frozenset({tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK})
_FILES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_WITHOUT_DATA = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


@dataclass
class _Extensions:
    """What the headers before an entry's own say of it."""

    name: str | None = None
    size: int | None = None
    is_sparse: bool = False
    count: int = 0


@dataclass
class _Position:
    """Bytes of the entry under way that nobody has read."""

    what: str
    unread: int = 0
    padding: int = 0


async def read_tar(upload: Upload, *, max_entry_bytes: int) -> AsyncGenerator[Entry]:
    """Yield the files of an archive; entries that are none are yielded as refused.

    Directories are passed over.

    Args:
        upload: The archive.
        max_entry_bytes: Larger files are refused and passed over.

    Raises:
        InvalidImage: A header is damaged, or the archive ends without its end mark.
    """
    extensions = _Extensions()
    index = 0
    while True:
        at = upload.position
        if await upload.is_at_end():
            raise InvalidImage(
                f"the tar archive ends at byte {at} without its end mark (a block of zeros); "
                "it may have been cut"
                if at
                else "the body is empty; expected a tar archive"
            )
        block = await upload.read(_BLOCK, f"the tar header at byte {at}")
        if not any(block):
            return
        header = _parse(block, at)
        if header.type in _PAX | _IGNORED or header.type == tarfile.GNUTYPE_LONGNAME:
            await _read_extension(upload, header, extensions, at)
            continue
        position = _Position(what=f"entry {index}")
        if header.type == tarfile.GNUTYPE_SPARSE:
            await _skip_sparse_map(upload, is_extended=bool(block[_SPARSE_HEADER_EXTENDED]))
        entry = _make_entry(upload, header, extensions, position, max_entry_bytes)
        extensions = _Extensions()
        if entry is None:
            await upload.skip(position.unread + position.padding, position.what)
            continue
        yield entry
        index += 1
        await upload.skip(position.unread + position.padding, position.what)


def _parse(block: bytes, at: int) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, IndexError, OverflowError) as error:
        raise InvalidImage(f"the tar header at byte {at} cannot be read: {error}") from error
    if header.size < 0:
        raise InvalidImage(f"the tar header at byte {at} claims {header.size} bytes")
    return header


async def _read_extension(
    upload: Upload, header: tarfile.TarInfo, extensions: _Extensions, at: int
) -> None:
    """Read what one extended header says of the entry that follows."""
    extensions.count += 1
    if header.size > _MAX_EXTENSION_BYTES or extensions.count > _MAX_EXTENSIONS:
        raise InvalidImage(
            f"the tar has an extended header of {header.size} bytes at byte {at}, the "
            f"{extensions.count}. before one entry; expected at most {_MAX_EXTENSION_BYTES} bytes "
            f"and {_MAX_EXTENSIONS} headers"
        )
    padded = header.size + _padding(header.size)
    data = (await upload.read(padded, f"the tar header at byte {at}"))[: header.size]
    if header.type == tarfile.GNUTYPE_LONGNAME:
        extensions.name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    if header.type in _PAX:
        records = parse_pax(data, at)
        extensions.name = records.get("path", extensions.name)
        extensions.is_sparse |= any(key.startswith("GNU.sparse.") for key in records)
        if "size" in records:
            text = records["size"]
            if not (text.isascii() and text.isdecimal() and len(text) <= 18):
                raise InvalidImage(f"the pax header at byte {at} has the size {text[:40]!r}")
            extensions.size = int(text)


def parse_pax(data: bytes, at: int) -> dict[str, str]:
    """Return the records of a pax header, each `LENGTH KEY=VALUE` and a line feed.

    Args:
        data: The header's data.
        at: Where it began, for the message.

    Raises:
        InvalidImage: They cannot be read.
    """
    records: dict[str, str] = {}
    start = 0
    while start < len(data):
        digits, space, _ = data[start : start + 8].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[start : start + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not (space and equals and len(record) == length and record.endswith(b"\n")):
            raise InvalidImage(f"the pax header at byte {at} cannot be read at its byte {start}")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        start += length
    return records


def _make_entry(
    upload: Upload,
    header: tarfile.TarInfo,
    extensions: _Extensions,
    position: _Position,
    max_entry_bytes: int,
) -> Entry | None:
    """Make one entry, None for a directory; sets what of it is to be passed over."""
    text = header.name if extensions.name is None else extensions.name
    name = usable_name(text)
    if header.type in _WITHOUT_DATA:
        kind = _WITHOUT_DATA[header.type]
        return refused(name, UnsuitableImage(f"the entry is {kind}; only files are read"))
    if header.type == tarfile.DIRTYPE:
        return None
    size = header.size if extensions.size is None else extensions.size
    position.unread, position.padding = size, _padding(size)
    if header.type == tarfile.GNUTYPE_SPARSE or extensions.is_sparse:
        return refused(name, UnsuitableImage("the entry is a sparse file; expected a whole one"))
    if header.type not in _FILES:
        return refused(name, UnsuitableImage(f"the entry has the unknown tar type {header.type!r}"))
    if name is None:
        return refused(
            None,
            InvalidImage(
                f"the entry's name is empty, holds a zero byte, or is too long "
                f"({len(text)} characters)"
            ),
        )
    if size > max_entry_bytes:
        return refused(
            name,
            ImageTooLarge(
                f"the entry has {size} bytes; at most {max_entry_bytes} are accepted "
                "(SEMSR_MAX_BODY_BYTES)"
            ),
        )
    return Entry(name, size, functools.partial(_load, upload, position))


async def _load(upload: Upload, position: _Position) -> Loaded:
    size, position.unread = position.unread, 0
    return loaded_file(await upload.read(size, position.what))


async def _skip_sparse_map(upload: Upload, *, is_extended: bool) -> None:
    """Pass over the blocks of a GNU sparse map that come before the data."""
    for _ in range(_MAX_SPARSE_BLOCKS):
        if not is_extended:
            return
        block = await upload.read(_BLOCK, "a sparse map")
        is_extended = bool(block[_SPARSE_BLOCK_EXTENDED])
    raise InvalidImage(f"the tar has a sparse map of more than {_MAX_SPARSE_BLOCKS} blocks")


def _padding(size: int) -> int:
    return -size % _BLOCK
