"""The headers of a tar archive, 512 bytes each, and the extended headers before them.

Python's `tarfile` parses the 512 bytes of a header and nothing more: its reader takes a damaged or
zeroed header for the end, keeps every member in memory, reads extended headers of any size, follows
sparse maps, and blocks. An attacker may choose the sizes in an archive.
"""

import tarfile
from dataclasses import dataclass

BLOCK_BYTES = tarfile.BLOCKSIZE
# Names and comments of one member; what writers put there is a few hundred bytes.
_MAX_EXTENSION_BYTES = 65_536
# pax, GNU long name, GNU long link: no writer puts more before one member.
_MAX_EXTENSIONS = 8
# GNU's own format has times where ustar has the first part of a long name.
_OLD_GNU_MAGIC = b"ustar  \0"
_MAX_SIZE_DIGITS = 18

_PAX = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE})
# Long names of link targets; access control lists of Solaris.
_SKIPPED_EXTENSIONS = frozenset({tarfile.GNUTYPE_LONGLINK, b"A"})
EXTENSIONS = _PAX | _SKIPPED_EXTENSIONS | {tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME}
_FILES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
# Folders, GNU's lists of what a folder held, and the label of a volume.
PASSED_OVER = frozenset({tarfile.DIRTYPE, b"D", b"V"})

HARD_LINK, SYMBOLIC_LINK, DEVICE, PIPE = "a hard link", "a symbolic link", "a device", "a pipe"
SPARSE, UNKNOWN = "a sparse file", "of an unknown tar type"
REFUSALS = (HARD_LINK, SYMBOLIC_LINK, DEVICE, PIPE, SPARSE, UNKNOWN)
"""Kinds of members that are not read."""
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


class TarDamage(Exception):  # noqa: N818 (the archive's damage is the error)
    """The archive cannot be read any further.

    Attributes:
        at: Byte at which it goes wrong; 0 where it is not a tar archive.
    """

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


@dataclass
class Extensions:
    """The extended headers before a member's own header, merged."""

    name: str | None = None
    size: int | None = None
    is_sparse: bool = False
    count: int = 0

    def checked_size(self, header: tarfile.TarInfo, at: int) -> int:
        """Count an extended header and return the bytes that its data take, whole blocks.

        Raises:
            TarDamage: The header is larger than any writer's, or there are too many.
        """
        self.count += 1
        if header.size > _MAX_EXTENSION_BYTES or self.count > _MAX_EXTENSIONS:
            raise TarDamage(
                f"the tar has an extended header of {header.size} bytes at byte {at}, the "
                f"{self.count}. before one entry; expected at most {_MAX_EXTENSION_BYTES} bytes "
                f"and {_MAX_EXTENSIONS} headers",
                at,
            )
        return padded_size(header.size)

    def add(self, header: tarfile.TarInfo, data: bytes, at: int) -> None:
        """Merge one extended header.

        Args:
            header: Extended header itself.
            data: Data of the header.
            at: Byte at which the header begins, for messages.

        Raises:
            TarDamage: The data are malformed, or decide on all members.
        """
        if header.type in _SKIPPED_EXTENSIONS:
            return
        if header.type == tarfile.GNUTYPE_LONGNAME:
            self.name = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            return
        records = parse_pax(data, at)
        if header.type == tarfile.XGLTYPE:
            _check_global(records, at)
            self.count -= 1  # it belongs to no member
            return
        self.name = records.get("path", self.name)
        self.name = records.get("GNU.sparse.name", self.name)
        self.is_sparse |= any(map(_is_sparse_key, records))
        if "size" in records:
            text = records["size"]
            if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_SIZE_DIGITS):
                raise TarDamage(f"the pax header at byte {at} has the size {text[:40]!r}", at)
            self.size = int(text)

    def data_size(self, header: tarfile.TarInfo) -> int:
        """Return the bytes of a member's data; `header` is the member's own."""
        if header.type in _WITHOUT_DATA or header.type == tarfile.DIRTYPE:
            return 0
        return header.size if self.size is None else self.size

    def refusal(self, header: tarfile.TarInfo) -> str | None:
        """Return the kind of `REFUSALS` of a member; None for a readable file."""
        if header.type in _WITHOUT_DATA:
            return _WITHOUT_DATA[header.type]
        if header.type == tarfile.GNUTYPE_SPARSE or self.is_sparse:
            return SPARSE
        return None if header.type in _FILES else UNKNOWN


def padded_size(size: int) -> int:
    """Return the bytes that data of this size take in an archive, in whole blocks."""
    return size + -size % BLOCK_BYTES


def parse_header(block: bytes, at: int) -> tarfile.TarInfo:
    """Read one header.

    Args:
        block: 512 bytes of the header.
        at: Byte at which they begin, for messages.

    Raises:
        TarDamage: The block is not a header, or claims a negative size.
    """
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


def _check_global(records: dict[str, str], at: int) -> None:
    """Reject a global header that sets path or size of all members; no writer makes one."""
    decisive = sorted(key for key in records if key in {"path", "size"} or _is_sparse_key(key))
    if decisive:
        raise TarDamage(
            f"the global pax header at byte {at} sets {', '.join(decisive)} for all members; "
            "expected comments only",
            at,
        )


def _is_sparse_key(key: str) -> bool:
    return key.startswith("GNU.sparse.")


def parse_pax(data: bytes, at: int) -> dict[str, str]:
    """Return the records of a pax header, each `LENGTH KEY=VALUE` and a line feed.

    Args:
        data: Data of the header; some writers fill the end with zeros.
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
