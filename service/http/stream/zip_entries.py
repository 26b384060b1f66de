"""A zip archive, spooled: read only where its directory, its entries' headers and its bytes agree.

Python's `zipfile` reads the directory. The rest is checked here: bytes before or after the
archive (as where two were joined), entries that the directory does not list, headers that differ
from it, data that are longer than claimed, and a comment that holds the mark of an end.
"""

import functools
import struct
import zipfile
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import IO

from service.ground.errors import ImageTooLarge, InvalidImage, ServiceError, UnsuitableImage
from service.http.stream.entries import Entry, Loaded, loaded_file, refused, usable_name
from service.http.stream.spooled_entries import in_thread
from service.http.stream.zip_end import END, IN_ZIP64, ArchiveView, find_end
from service.images.tar_format import APPLE_DOUBLE, is_from_macos

ZIP = "application/zip"
_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_MARK = b"PK\x03\x04"
# Signature, CRC and two lengths of 8 bytes: what may follow an entry's data.
_MOST_DESCRIPTOR_BYTES = 24
_ENCRYPTED, _HAS_DESCRIPTOR, _UTF_8 = 0x1, 0x8, 0x800
_READABLE_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_PIECE_BYTES = 1 << 16
_MAX_MACOS_BYTES = 1 << 20
# Errors of `zipfile` for bad offsets and lengths, in addition to its own.
_DAMAGE = (struct.error, EOFError, OSError, ValueError, RuntimeError)


@dataclass(frozen=True)
class _Member:
    """One file of the archive.

    Attributes:
        info: Entry of the directory.
        data_at: Byte at which its data begin.
        mismatch: Difference between its own header and the directory, or None.
    """

    info: zipfile.ZipInfo
    data_at: int
    mismatch: str | None


async def read_zip(file: IO[bytes], *, max_entry_bytes: int) -> AsyncGenerator[Entry]:
    """Yield the files of a zip archive, stored or deflated.

    Directories are skipped, and so are the files that macOS adds (`._NAME`, `__MACOSX/`).

    Args:
        file: Archive.
        max_entry_bytes: Maximum size of an unpacked entry, regardless of the size that it claims.

    Raises:
        InvalidImage: Not a zip archive, joined with something else, or with overlapping entries.
        UnsuitableImage: Its directory is too large.
    """
    for member in await in_thread(_open_zip, file):
        info = member.info
        if info.is_dir() or await in_thread(_is_beside, file, member):
            continue
        name = usable_name(info.filename)
        refusal = _zip_refusal(member, name, max_entry_bytes)
        if refusal is not None:
            yield refused(name, refusal)
            continue
        yield Entry(name, info.file_size, functools.partial(_load_zip_entry, file, member))


def _open_zip(file: IO[bytes]) -> list[_Member]:
    """Find the files of an archive, in the order of its directory."""
    size = file.seek(0, 2)
    end_at = find_end(file, size)
    file.seek(end_at)
    _, disk, first_disk, _, count, _, directory_at, _ = END.unpack(file.read(END.size))
    if {disk, first_disk} - {0, 0xFFFF}:
        raise InvalidImage("the body is one part of a zip archive in several; send it as one")
    try:
        archive = zipfile.ZipFile(ArchiveView(file, end_at + END.size))
    except (zipfile.BadZipFile, *_DAMAGE) as error:
        raise InvalidImage(f"the body is not a readable zip archive: {error}") from error
    infos = archive.infolist()
    before = archive.start_dir - directory_at
    if directory_at != IN_ZIP64 and before:
        raise InvalidImage(
            f"{before} bytes come before the zip archive, as where two were joined; send each by "
            "itself"
        )
    if count not in {len(infos) & 0xFFFF, 0xFFFF}:
        raise InvalidImage(f"the zip's directory lists {len(infos)} entries and counts {count}")
    return _located(file, infos, archive.start_dir)


def _located(file: IO[bytes], infos: list[zipfile.ZipInfo], directory_at: int) -> list[_Member]:
    """Read each entry's own header, and check that no bytes lie between the entries.

    Raises:
        InvalidImage: Entries overlap, or one is not in the directory.
    """
    members: dict[int, _Member] = {}
    gaps: list[tuple[int, int]] = []
    end = directory_at
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        member = _member(file, info)
        data_end = member.data_at + info.compress_size
        if data_end > end or info.header_offset in members:
            raise InvalidImage("the zip's entries overlap")
        gaps.append((data_end, end))
        members[info.header_offset] = member
        end = info.header_offset
    for gap in ((0, end), *gaps):
        _check_gap(file, *gap)
    return [members[info.header_offset] for info in infos]


def _member(file: IO[bytes], info: zipfile.ZipInfo) -> _Member:
    file.seek(info.header_offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or not head.startswith(_LOCAL_MARK):
        at = info.header_offset + _LOCAL.size
        return _Member(info, at, f"its header is missing at byte {info.header_offset}")
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(head)
    name = file.read(name_length).decode("utf-8" if flags & _UTF_8 else "cp437", "replace")
    pairs = [("name", name, info.orig_filename), ("compression", method, info.compress_type)]
    if not flags & _HAS_DESCRIPTOR:
        lengths = [("packed size", packed, info.compress_size), ("size", size, info.file_size)]
        pairs += [("CRC", crc, info.CRC), *(pair for pair in lengths if pair[1] != IN_ZIP64)]
    mismatch = next(
        (f"its header has the {what} {own!r}, the directory {other!r}"
         for what, own, other in pairs if own != other),
        None,
    )  # fmt: skip
    return _Member(info, info.header_offset + len(head) + name_length + extra_length, mismatch)


def _check_gap(file: IO[bytes], start: int, end: int) -> None:
    """Refuse an entry between two others that the directory does not list."""
    if end - start < _LOCAL.size:
        return
    file.seek(start)
    at = file.read(min(end - start, _MOST_DESCRIPTOR_BYTES + len(_LOCAL_MARK))).find(_LOCAL_MARK)
    if at >= 0:
        raise InvalidImage(
            f"the zip holds an entry at byte {start + at} that its directory does not list; it may "
            "be damaged, or have been changed without its directory"
        )


def _zip_refusal(member: _Member, name: str | None, max_entry_bytes: int) -> ServiceError | None:
    info = member.info
    if name is None:
        return InvalidImage("the entry's name is empty or too long")
    if info.flag_bits & _ENCRYPTED:
        return UnsuitableImage("the entry is encrypted")
    if info.compress_type not in _READABLE_METHODS:
        return UnsuitableImage(
            f"the entry has zip compression {info.compress_type}; expected 0 (stored) or "
            "8 (deflate)"
        )
    if member.mismatch is not None:
        return InvalidImage(f"the entry is damaged: {member.mismatch}")
    if info.file_size > max_entry_bytes:
        return ImageTooLarge(
            f"the entry unpacks to {info.file_size} bytes; at most {max_entry_bytes} are accepted "
            "(SEMSR_MAX_BODY_BYTES)"
        )
    return None


def _is_beside(file: IO[bytes], member: _Member) -> bool:
    """Whether an entry is an extra file of macOS."""
    info = member.info
    if not is_from_macos(info.filename):
        return False
    if info.filename.startswith("__MACOSX/"):
        return True
    if info.file_size > _MAX_MACOS_BYTES or _zip_refusal(member, "", _MAX_MACOS_BYTES):
        return False
    try:
        return _unpack(file, member).startswith(APPLE_DOUBLE)
    except ServiceError:
        return False  # its own answer says so


async def _load_zip_entry(file: IO[bytes], member: _Member) -> Loaded:
    return loaded_file(await in_thread(_unpack, file, member))


def _unpack(file: IO[bytes], member: _Member) -> bytes:
    """Unpack one entry: exactly the bytes that the directory claims, with its CRC.

    Raises:
        InvalidImage: The data are damaged, too short or too long.
    """
    info = member.info
    file.seek(member.data_at)
    if info.compress_type == zipfile.ZIP_STORED:
        data = file.read(info.file_size) if info.compress_size == info.file_size else b""
    else:
        data = _inflate(file, info)
    if len(data) != info.file_size:
        raise InvalidImage(
            f"the entry does not unpack: its data do not give the {info.file_size} bytes that the "
            "directory claims"
        )
    if zlib.crc32(data) != info.CRC:
        raise InvalidImage("the entry does not unpack: its CRC is wrong")
    return data


def _inflate(file: IO[bytes], info: zipfile.ZipInfo) -> bytes:
    """Inflate one entry; its data must end with the stream."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    left, pieces, missing = info.compress_size, list[bytes](), info.file_size + 1
    try:
        while left and missing > 0 and not unpacker.eof:
            packed = file.read(min(left, _PIECE_BYTES))
            if not packed:
                break
            left -= len(packed)
            while packed and missing > 0:
                piece = unpacker.decompress(packed, missing)
                packed = unpacker.unconsumed_tail
                pieces.append(piece)
                missing -= len(piece)
    except zlib.error as error:
        raise InvalidImage(f"the entry does not unpack: {error}") from error
    if not unpacker.eof or unpacker.unused_data or left:
        raise InvalidImage(
            "the entry does not unpack: its data end early, or continue after their end"
        )
    return b"".join(pieces)
