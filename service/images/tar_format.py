"""The members of a tar archive: one reader for scans (by seeks) and for batches (as bytes arrive).

    read_members() ──Read, ReadSome, GoTo, TarMember──> driver
                   <──────────────bytes────────────────

The reader holds no file and never waits: its driver carries out each step and sends bytes back. It
reads ustar, v7, pax and GNU headers; regular files are members to be read, all others have a
refusal. An archive is whole only if every header has its checksum, every member its data, and
nothing but zeros follows the end mark. Anything else is a `TarDamage`, never a shorter archive.
"""

import tarfile
from collections.abc import Generator
from dataclasses import dataclass

from service.images.tar_headers import (
    BLOCK_BYTES,
    EXTENSIONS,
    PASSED_OVER,
    Extensions,
    TarDamage,
    padded_size,
    parse_header,
)

_MAX_SPARSE_BLOCKS = 64
# Where a GNU header, and a block of its sparse map, say that another such block follows.
_SPARSE_HEADER_EXTENDED, _SPARSE_BLOCK_EXTENDED = 482, 504

# Files that macOS adds for each file: their folder in a zip, their prefix, and their first bytes.
_MACOS_FOLDER, _MACOS_PREFIX = "__MACOSX", "._"
APPLE_DOUBLE = b"\0\x05\x16\x07"
"""First bytes of a file in which macOS stores the attributes of another file."""


@dataclass(frozen=True, slots=True)
class Read:
    """A request for the next `size` bytes.

    Attributes:
        size: Number of bytes; fewer are damage that the driver reports.
        what: Name of the bytes, for that message.
        may_end: Whether the archive may end before the first of them; the driver sends none then.
    """

    size: int
    what: str
    may_end: bool = False


@dataclass(frozen=True, slots=True)
class ReadSome:
    """A request for the next bytes, any number; the driver sends none at the end of the archive."""


@dataclass(frozen=True, slots=True)
class GoTo:
    """A request to go to a byte; the driver sends nothing.

    Attributes:
        position: Byte of the archive, at or after the current one.
        what: Name of the skipped bytes, for the message about an archive that ends early.
    """

    position: int
    what: str


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member; the driver may read its data before it goes on, and sends nothing.

    Attributes:
        name: Path in the archive; bytes that are not UTF-8 as surrogates.
        size: Number of bytes of its data.
        data_at: Byte at which they begin.
        refusal: One of `REFUSALS`, or None for a file.
    """

    name: str
    size: int
    data_at: int
    refusal: str | None


Step = Read | ReadSome | GoTo | TarMember


def read_members() -> Generator[Step, bytes, None]:
    """Find the members of an archive from its first byte to its last.

    Yields:
        The driver's next step, or a member.

    Raises:
        TarDamage: A header is damaged or missing, the end mark is, or something follows it.
    """
    extensions = Extensions()
    at = 0
    while True:
        block = yield Read(BLOCK_BYTES, f"the tar header at byte {at}", may_end=True)
        if not block:
            raise TarDamage(_without_end(at), at)
        if not any(block):
            break
        header = parse_header(block, at)
        data_at = at + BLOCK_BYTES
        if header.type in EXTENSIONS:
            padded = extensions.checked_size(header, at)
            data = yield Read(padded, f"the tar header at byte {at}")
            extensions.add(header, data[: header.size], at)
            at = data_at + padded
            continue
        if header.type == tarfile.GNUTYPE_SPARSE:
            data_at = yield from _pass_sparse_map(block, data_at)
        size = extensions.data_size(header)
        name = header.name if extensions.name is None else extensions.name
        if header.type not in PASSED_OVER:
            yield TarMember(name, size, data_at, extensions.refusal(header))
        extensions = Extensions()
        at = data_at + padded_size(size)
        yield GoTo(at, f"the member {name!r}")
    if extensions.count:
        raise TarDamage(f"the tar archive ends at byte {at}, after an extended header", at)
    yield from _check_rest(at)


def is_from_macos(name: str) -> bool:
    """Whether a member's name is one of the extra files of macOS."""
    parts = name.split("/")
    return parts[0] == _MACOS_FOLDER or parts[-1].startswith(_MACOS_PREFIX)


def is_hidden(name: str) -> bool:
    """Whether a member is hidden: a listing of a folder would leave out a part of its path."""
    parts = name.split("/")
    return parts[0] == _MACOS_FOLDER or any(
        part.startswith(".") and part not in {".", ".."} for part in parts
    )


def _without_end(at: int) -> str:
    if not at:
        return "the tar archive is empty: it has no bytes"
    return (
        f"the tar archive ends at byte {at} without its end mark (a block of zeros); it may have "
        "been cut"
    )


def _pass_sparse_map(block: bytes, data_at: int) -> Generator[Step, bytes, int]:
    """Skip the blocks of a GNU sparse map before the data; returns the start of the data."""
    is_extended = bool(block[_SPARSE_HEADER_EXTENDED])
    for _ in range(_MAX_SPARSE_BLOCKS):
        if not is_extended:
            return data_at
        block = yield Read(BLOCK_BYTES, "a sparse map")
        data_at += BLOCK_BYTES
        is_extended = bool(block[_SPARSE_BLOCK_EXTENDED])
    raise TarDamage(
        f"the tar has a sparse map of more than {_MAX_SPARSE_BLOCKS} blocks at byte {data_at}",
        data_at,
    )


def _check_rest(end_at: int) -> Generator[Step, bytes, None]:
    """Check that only zeros follow the end mark, in any number."""
    position = end_at + BLOCK_BYTES
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
