"""Where files lie: what a store is; `local_store` and `object_store` are the two kinds.

Both write a file whole or not at all. Locally: a temporary name, fsync, rename, and fsync of the
folder before anybody is told (`sync`). On an object store: one PUT, or a multipart upload that its
completion makes visible.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from service.scans.errors import TileError

ESCAPE = "\\x"
"""What stands in a `printable` name for a byte that is not UTF-8."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a store.

    Attributes:
        name: Relative to the store's root, parts joined by `/`; what is no regular file ends in
            `/`: a link to a folder, which is not followed, a pipe, a device.
        size_bytes: Its length.
        stamp: Changes when the file does: time of change, or entity tag.
    """

    name: str
    size_bytes: int
    stamp: str


class Store(Protocol):
    """A root under which files are read and written by relative names; safe for threads.

    Attributes:
        url: What the root was asked for by, without a trailing slash.
        io_at_once: Reads and writes that are worth having under way at once.
        io_per_thread: How many of them one thread takes, rather than each its own.
        is_confined: Whether nothing outside may be read through what lies in it.
    """

    url: str
    io_at_once: int
    io_per_thread: int
    is_confined: bool

    def walk(self) -> Iterator[FileEntry]:
        """List every file below the root, in no particular order; nothing where there is no root.

        Raises:
            ScanError: A folder cannot be listed.
            StoreLostError: The store does not answer.
        """
        ...

    def find(self, name: str) -> FileEntry | None:
        """Look a file up; None where it is absent."""
        ...

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Read a file or a part of it.

        Raises:
            TileError: This file cannot be read.
            StoreLostError: The store does not answer.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading from its beginning on; seeks are possible.

        Raises:
            ScanError: It cannot be opened.
        """
        ...

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file whole or not at all.

        Raises:
            TileError: This name cannot be written.
            StoreLostError: The store takes nothing more.
        """
        ...

    def write_all(self, files: Sequence[tuple[str, bytes | memoryview]]) -> list[TileError | None]:
        """Write files, each whole or not at all.

        Returns:
            For each of them None, or why its name cannot be written.

        Raises:
            StoreLostError: The store takes nothing more.
        """
        ...

    def move_in(self, name: str, path: Path) -> None:
        """Write what a local file holds, whole or not at all, and remove it; raises as `write`."""
        ...

    def sync(self, names: Iterable[str]) -> None:
        """Make sure that files just written are still there after a power failure."""
        ...

    def check_whole(self) -> None:
        """Make sure that nothing below the root leads out of it, for those who read it by path.

        Raises:
            ScanError: Something does, and the store is confined.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        ...

    def remove_parts(self) -> None:
        """Remove what a killed process left under temporary names."""
        ...

    def local_path(self, name: str) -> Path | None:
        """Return where the file lies on this machine, or None."""
        ...


def printable(name: str) -> str:
    """Return a name as it is told: bytes of it that are not UTF-8 as escapes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name


def safe_name(name: str) -> str:
    """Return a relative name as it is.

    Raises:
        TileError: It is absolute or leads upwards, as names in an archive can.
    """
    # Every file of a lot comes here several times; pathlib would take as long as opening it does.
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or set(parts) <= {"", "."} or "\0" in name:
        raise TileError(f"the name {name!r} leads out of its folder")
    return name
