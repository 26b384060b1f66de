"""The protocol of stores, which hold files; `local_store` and `object_store` are the two kinds.

Both write a file whole or not at all. A local store writes under a temporary name, calls fsync and
renames the file; `sync` then calls fsync on the folder. An object store uses one PUT, or a
multipart upload, which becomes visible when it is complete.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from service.scans.errors import TileError

ESCAPE = "\\x"
"""Prefix of an escaped byte in a `printable` name."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a store.

    Attributes:
        name: Name relative to the store's root, parts joined by `/`. The name of a
            special file (a link to a folder, which is not followed, a pipe, a device) ends in `/`.
        size_bytes: Length of the file.
        stamp: Text that changes with the file: time of change, or entity tag.
    """

    name: str
    size_bytes: int
    stamp: str


class Store(Protocol):
    """A root under which files are read and written by relative names; safe for threads.

    Attributes:
        url: URL or path of the root, without a trailing slash.
        io_at_once: Number of parallel reads or writes that pays off.
        io_per_thread: Number of parallel reads or writes that share one thread.
        is_confined: Whether links must not lead out of the allowed folders.
    """

    url: str
    io_at_once: int
    io_per_thread: int
    is_confined: bool

    def walk(self) -> Iterator[FileEntry]:
        """List every file below the root, in no particular order; a missing root has none.

        Raises:
            ScanError: A folder cannot be listed.
            StoreLostError: The store does not answer.
        """
        ...

    def find(self, name: str) -> FileEntry | None:
        """Look up a file; None if it does not exist."""
        ...

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Read a file, or a part of it.

        Raises:
            TileError: This file cannot be read.
            StoreLostError: The store does not answer.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; seeks are possible.

        Raises:
            ScanError: It cannot be opened.
        """
        ...

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file whole or not at all.

        Raises:
            TileError: This name cannot be written.
            StoreLostError: The store cannot be written.
        """
        ...

    def write_all(self, files: Sequence[tuple[str, bytes | memoryview]]) -> list[TileError | None]:
        """Write files, each whole or not at all.

        Returns:
            For each file its error, or None.

        Raises:
            StoreLostError: The store cannot be written.
        """
        ...

    def move_in(self, name: str, path: Path) -> None:
        """Move a local file into the store, whole or not at all; raises as `write`."""
        ...

    def sync(self, names: Iterable[str]) -> None:
        """Make new files durable, so that they survive a power failure."""
        ...

    def check_whole(self) -> None:
        """Check that no link below the root leads out of it, before it is read by path.

        Raises:
            ScanError: A link leads out, and the store is confined.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        ...

    def remove_parts(self) -> None:
        """Remove the temporary files of killed processes."""
        ...

    def local_path(self, name: str) -> Path | None:
        """Return the path of a file on this machine, or None."""
        ...


def printable(name: str) -> str:
    """Return a name for messages: bytes that are not UTF-8 become escapes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name


def safe_name(name: str) -> str:
    """Return a relative name unchanged.

    Raises:
        TileError: The name is absolute or leads upwards, as a name in an archive can.
    """
    # Called several times for every file of a lot; pathlib would take as long as opening the file.
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or set(parts) <= {"", "."} or "\0" in name:
        raise TileError(f"the name {name!r} leads out of its folder")
    return name
