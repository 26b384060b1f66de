"""The members of a tar archive: one reader for scans (by seeks) and for batches (as bytes arrive).

    read_members() ──Read, ReadSome, GoTo, TarMember──> driver
                   <──────────────bytes────────────────

It holds no file and waits for nothing: its driver does what it asks for and sends bytes back. Read
are ustar, v7, pax and GNU headers; regular files are members to be read, anything else comes with a
refusal. An archive is whole only if every header has its checksum, every member its data, and
nothing but zeros follows the end mark. Anything else is a `TarDamage`, never a shorter archive.

Python's `tarfile` parses the 512 bytes of a header and nothing more: its reader takes a damaged or
zeroed header for the end, keeps every member in memory, reads extended headers of any size, follows
sparse maps, and blocks. The sizes in an archive are the sender's.
"""

import tarfile
from collections.abc import Generator
from dataclasses import dataclass

_BLOCK = tarfile.BLOCKSIZE
# Names and comments of one member; what writers put there is a few hundred bytes.
_MAX_EXTENSION_BYTES = 65_536
# pax, GNU long name, GNU long link: no writer puts more before one member.
_MAX_EXTENSIONS = 8
_MAX_SPARSE_BLOCKS = 64
# Where a GNU header, and a block of its sparse map, say that another such block follows.
_SPARSE_HEADER_EXTENDED, _SPARSE_BLOCK_EXTENDED = 482, 504
# GNU's own format has times where ustar has the first part of a long name.
_OLD_GNU_MAGIC = b"ustar  \0"
_MAX_SIZE_DIGITS = 18

_PAX = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE})
# Long names of link targets; access control lists of Solaris.
_SKIPPED_EXTENSIONS = frozenset({tarfile.GNUTYPE_LONGLINK, b"A"})
_EXTENSIONS = _PAX | _SKIPPED_EXTENSIONS | {tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME}
_FILES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
# Folders, GNU's lists of what a folder held, and the label of a volume.
_PASSED_OVER = frozenset({tarfile.DIRTYPE, b"D", b"V"})

HARD_LINK, SYMBOLIC_LINK, DEVICE, PIPE = "a hard link", "a symbolic link", "a device", "a pipe"
SPARSE, UNKNOWN = "a sparse file", "of an unknown tar type"
REFUSALS = (HARD_LINK, SYMBOLIC_LINK, DEVICE, PIPE, SPARSE, UNKNOWN)
"""What a member is that is not read."""
_WITHOUT_DATA = {
    tarfile.LNKTYPE: HARD_LINK,
    tarfile.SYMTYPE: SYMBOLIC_LINK,
    tarfile.CHRTYPE: DEVICE,
    tarfile.BLKTYPE: DEVICE,
    tarfile.FIFOTYPE: PIPE,
}

_OTHER_FORMATS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
# What macOS writes beside each file: its folder in a zip, its prefix, and its first bytes.
_MACOS_FOLDER, _MACOS_PREFIX = "__MACOSX", "._"
APPLE_DOUBLE = b"\0\x05\x16\x07"
"""How a file begins that macOS writes beside another one, with its attributes."""


class TarDamage(Exception):  # noqa: N818 (the archive's, which is the error)
    """The archive cannot be read any further.

    Attributes:
        at: Byte at which it goes wrong; 0 where it is not a tar archive.
    """

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True, slots=True)
class Read:
    """A wish for the next `size` bytes.

    Attributes:
        size: Number of bytes; fewer are damage that the driver reports.
        what: What they are, for that message.
        may_end: Whether the archive may end before the first of them; the driver sends none then.
    """

    size: int
    what: str
    may_end: bool = False


@dataclass(frozen=True, slots=True)
class ReadSome:
    """A wish for the next bytes, any number; the driver sends none at the end of the archive."""


@dataclass(frozen=True, slots=True)
class GoTo:
    """A wish to go on at a byte; the driver sends nothing.

    Attributes:
        position: Byte of the archive, not before the current one.
        what: What is passed over, for the message where the archive ends before.
    """

    position: int
    what: str


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member; the driver may read its data before it goes on, and sends nothing.

    Attributes:
        name: Its path as the archive has it; bytes that are not UTF-8 as surrogates.
        size: Bytes of its data.
        data_at: Byte at which they begin.
        refusal: One of `REFUSALS`, or None for a file.
    """

    name: str
    size: int
    data_at: int
    refusal: str | None


Step = Read | ReadSome | GoTo | TarMember


@dataclass
class _Extensions:
    """What the headers before a member's own say of it."""

    name: str | None = None
    size: int | None = None
    is_sparse: bool = False
    count: int = 0


def read_members() -> Generator[Step, bytes, None]:
    """Find the members of an archive from its first byte to its last.

    Yields:
        What the driver is to do next, or a member.

    Raises:
        TarDamage: A header is damaged or missing, the end mark is, or something follows it.
    """
    extensions = _Extensions()
    at = 0
    while True:
        block = yield Read(_BLOCK, f"the tar header at byte {at}", may_end=True)
        if not block:
            raise TarDamage(_without_end(at), at)
        if not any(block):
            break
        header = _parse(block, at)
        data_at = at + _BLOCK
        if header.type in _EXTENSIONS:
            padded = _checked_extension(header, extensions, at)
            data = yield Read(padded, f"the tar header at byte {at}")
            _extend(extensions, header, data[: header.size], at)
            at = data_at + padded
            continue
        if header.type == tarfile.GNUTYPE_SPARSE:
            data_at = yield from _pass_sparse_map(block, data_at)
        size = _data_size(header, extensions)
        name = header.name if extensions.name is None else extensions.name
        if header.type not in _PASSED_OVER:
            yield TarMember(name, size, data_at, _refusal(header, extensions))
        extensions = _Extensions()
        at = data_at + padded_size(size)
        yield GoTo(at, f"the member {name!r}")
    if extensions.count:
        raise TarDamage(f"the tar archive ends at byte {at}, after an extended header", at)
    yield from _check_rest(at)


def is_from_macos(name: str) -> bool:
    """Whether a member's name is one that macOS gives to what it writes beside a file."""
    parts = name.split("/")
    return parts[0] == _MACOS_FOLDER or parts[-1].startswith(_MACOS_PREFIX)


def is_hidden(name: str) -> bool:
    """Whether a member would be left out of a folder's listing: a part of its path is hidden."""
    parts = name.split("/")
    return parts[0] == _MACOS_FOLDER or any(
        part.startswith(".") and part not in {".", ".."} for part in parts
    )


def padded_size(size: int) -> int:
    """Return the bytes that data of a size take in an archive: whole blocks."""
    return size + -size % _BLOCK


def _without_end(at: int) -> str:
    if not at:
        return "the tar archive is empty: it has no bytes"
    return (
        f"the tar archive ends at byte {at} without its end mark (a block of zeros); it may have "
        "been cut"
    )


def _parse(block: bytes, at: int) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, IndexError, OverflowError) as error:
        reason = str(error)
        if not at:
            for start, kind in _OTHER_FORMATS.items():
                if block.startswith(start):
                    reason = f"it is {kind}; expected an uncompressed tar"
        raise TarDamage(f"the tar header at byte {at} cannot be read: {reason}", at) from error
    if header.size < 0:
        raise TarDamage(f"the tar header at byte {at} claims {header.size} bytes", at)
    if block[257:265] == _OLD_GNU_MAGIC:
        header.name = block[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return header


def _checked_extension(header: tarfile.TarInfo, extensions: _Extensions, at: int) -> int:
    """Return the bytes that an extended header's data take."""
    extensions.count += 1
    if header.size > _MAX_EXTENSION_BYTES or extensions.count > _MAX_EXTENSIONS:
        raise TarDamage(
            f"the tar has an extended header of {header.size} bytes at byte {at}, the "
            f"{extensions.count}. before one entry; expected at most {_MAX_EXTENSION_BYTES} bytes "
            f"and {_MAX_EXTENSIONS} headers",
            at,
        )
    return padded_size(header.size)


def _extend(extensions: _Extensions, header: tarfile.TarInfo, data: bytes, at: int) -> None:
    """Take what one extended header says of the member that follows."""
    if header.type in _SKIPPED_EXTENSIONS:
        return
    if header.type == tarfile.GNUTYPE_LONGNAME:
        extensions.name = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return
    records = parse_pax(data, at)
    if header.type == tarfile.XGLTYPE:
        # Of all members that follow. No writer says these there, and none is passed over here.
        decisive = sorted(key for key in records if key in {"path", "size"} or _is_sparse_key(key))
        if decisive:
            raise TarDamage(
                f"the global pax header at byte {at} sets {', '.join(decisive)} for all members; "
                "expected comments only",
                at,
            )
        extensions.count -= 1  # it belongs to no member
        return
    extensions.name = records.get("path", extensions.name)
    extensions.name = records.get("GNU.sparse.name", extensions.name)
    extensions.is_sparse |= any(map(_is_sparse_key, records))
    if "size" in records:
        text = records["size"]
        if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_SIZE_DIGITS):
            raise TarDamage(f"the pax header at byte {at} has the size {text[:40]!r}", at)
        extensions.size = int(text)


def _is_sparse_key(key: str) -> bool:
    return key.startswith("GNU.sparse.")


def parse_pax(data: bytes, at: int) -> dict[str, str]:
    """Return the records of a pax header, each `LENGTH KEY=VALUE` and a line feed.

    Args:
        data: The header's data; some writers fill its end with zeros.
        at: Byte at which it began, for the message.

    Raises:
        TarDamage: They cannot be read.
    """
    records: dict[str, str] = {}
    start = 0
    while start < len(data):
        if not data[start] and not any(data[start:]):
            break
        digits, space, _ = data[start : start + 8].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[start : start + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not (space and equals and len(record) == length and record.endswith(b"\n")):
            raise TarDamage(f"the pax header at byte {at} cannot be read at its byte {start}", at)
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        start += length
    return records


def _data_size(header: tarfile.TarInfo, extensions: _Extensions) -> int:
    if header.type in _WITHOUT_DATA or header.type == tarfile.DIRTYPE:
        return 0
    return header.size if extensions.size is None else extensions.size


def _refusal(header: tarfile.TarInfo, extensions: _Extensions) -> str | None:
    if header.type in _WITHOUT_DATA:
        return _WITHOUT_DATA[header.type]
    if header.type == tarfile.GNUTYPE_SPARSE or extensions.is_sparse:
        return SPARSE
    return None if header.type in _FILES else UNKNOWN


def _pass_sparse_map(block: bytes, data_at: int) -> Generator[Step, bytes, int]:
    """Pass over the blocks of a GNU sparse map before the data; returns where those begin."""
    is_extended = bool(block[_SPARSE_HEADER_EXTENDED])
    for _ in range(_MAX_SPARSE_BLOCKS):
        if not is_extended:
            return data_at
        block = yield Read(_BLOCK, "a sparse map")
        data_at += _BLOCK
        is_extended = bool(block[_SPARSE_BLOCK_EXTENDED])
    raise TarDamage(
        f"the tar has a sparse map of more than {_MAX_SPARSE_BLOCKS} blocks at byte {data_at}",
        data_at,
    )


def _check_rest(end_at: int) -> Generator[Step, bytes, None]:
    """Make sure that nothing but zeros follows the end mark; any number of them may."""
    position = end_at + _BLOCK
    while piece := (yield ReadSome()):
        if any(piece):
            offset = len(piece) - len(piece.lstrip(b"\0"))
            raise TarDamage(_following(end_at, position + offset), end_at)
        position += len(piece)


def _following(end_at: int, at: int) -> str:
    return (
        f"bytes follow the end mark of the tar archive, which is at byte {end_at}: the first is "
        f"byte {at}. They are not read: either several archives were joined (send or scan each by "
        "itself), or the header there was overwritten with zeros"
    )
