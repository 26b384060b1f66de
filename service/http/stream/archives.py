"""The answer to a stream of tiles: a tar archive, or multipart/mixed, written entry by entry."""

import secrets
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote_from_bytes

import orjson

from service.images.codec.sniffing import JXL, NPY, PNG, RAW, TIFF, ZSTD

TAR, MULTIPART = "application/x-tar", "multipart/mixed"

SUFFIXES = {
    PNG: ".png",
    TIFF: ".tif",
    JXL: ".jxl",
    NPY: ".npy",
    RAW: ".raw",
    ZSTD: ".raw.zst",
}
PROBLEM_SUFFIX = ".problem.json"
# Other suffixes of the types of `SUFFIXES`.
_EQUAL_SUFFIXES = {".tiff": ".tif"}

Piece = bytes | memoryview


@dataclass(frozen=True)
class OutEntry:
    """One entry of the answer.

    Attributes:
        name: Name of the entry.
        media_type: Media type of its body.
        body: Bytes of its body.
        facts: Values by the names of the headers of a single answer.
    """

    name: str
    media_type: str
    body: Piece
    facts: Mapping[str, str] = field(default_factory=dict[str, str])


class Archive(Protocol):
    """Container of the entries of an answer."""

    content_type: str

    def entry(self, entry: OutEntry) -> Sequence[Piece]:
        """Return the bytes of one entry."""
        ...

    def end(self) -> Sequence[Piece]:
        """Return the bytes that end the archive."""
        ...


def make_archive(media_type: str) -> Archive:
    """Make an archive of `TAR` or `MULTIPART`."""
    return TarArchive() if media_type == TAR else MultipartArchive()


class TarArchive:
    """POSIX (pax) tar; the facts of an entry are JSON in its pax record `comment`.

    `comment` because every tar program knows and ignores it; GNU tar warns of others at each entry.
    """

    content_type = TAR

    def entry(self, entry: OutEntry) -> Sequence[Piece]:
        """Return a pax header, the header, the body, and the padding of its last block."""
        info = tarfile.TarInfo(entry.name)
        info.size = len(entry.body)
        info.mtime = int(time.time())
        info.pax_headers = {
            "comment": orjson.dumps({"Content-Type": entry.media_type, **entry.facts}).decode()
        }
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        return [header, entry.body, bytes(-len(entry.body) % tarfile.BLOCKSIZE)]

    def end(self) -> Sequence[Piece]:
        """Return the end mark."""
        return [bytes(2 * tarfile.BLOCKSIZE)]


class MultipartArchive:
    """RFC 2046 multipart/mixed; every part has its Content-Length, its name, and the facts."""

    def __init__(self) -> None:
        self._boundary = secrets.token_hex(16)
        self.content_type = f"{MULTIPART}; boundary={self._boundary}"

    def entry(self, entry: OutEntry) -> Sequence[Piece]:
        """Return a part with its boundary."""
        raw_name = entry.name.encode("utf-8", "surrogateescape")
        lines = [
            f"--{self._boundary}",
            f"Content-Type: {entry.media_type}",
            f"Content-Length: {len(entry.body)}",
            # RFC 8187: no name can end the header.
            f"Content-Disposition: attachment; filename*=UTF-8''{quote_from_bytes(raw_name)}",
            *(f"{name}: {value}" for name, value in entry.facts.items()),
        ]
        return ["\r\n".join(lines).encode() + b"\r\n\r\n", entry.body, b"\r\n"]

    def end(self) -> Sequence[Piece]:
        """Return the closing boundary."""
        return [f"--{self._boundary}--\r\n".encode()]


def answer_name(name: str | None, index: int, media_type: str) -> str:
    """Name the answer to one image.

    The image's own name, with a suffix added where it does not say the answer's type: two images
    that differ in their suffix only must not get one name.
    """
    suffix = SUFFIXES[media_type]
    if name is None:
        return f"{index:06d}{suffix}"
    lower = name.lower()
    has_suffix = lower.endswith(suffix) or any(
        lower.endswith(other) for other, same in _EQUAL_SUFFIXES.items() if same == suffix
    )
    return name if has_suffix else name + suffix


def problem_name(name: str | None, index: int) -> str:
    """Name the problem of one image."""
    return f"{f'{index:06d}' if name is None else name}{PROBLEM_SUFFIX}"
