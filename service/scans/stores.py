"""Where files lie: a local folder, or a prefix of an object store through fsspec.

Both write a file whole or not at all. Locally: a temporary name, fsync, rename, and fsync of the
folder before anybody is told (`sync`). On an object store: one PUT, or a multipart upload that its
completion makes visible.
"""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol, TypeVar

from service.scans.errors import MissingExtraError, ScanError, StoreLostError, TileError
from service.scans.extras import load_extra

Result = TypeVar("Result")

PART_SUFFIX = ".semsr-part"
# What is wrong with one name rather than with the store.
_BAD_NAMES = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EISDIR, errno.ENOTDIR})
_LONGEST_PAUSE_S = 5.0
# A store that is there answers within this; longer waits are the retries' business.
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a store.

    Attributes:
        name: Relative to the store's root, parts joined by `/`; a link to a folder, which is not
            followed, ends in `/`.
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
        io_threads: Reads and writes that are worth having under way at once.
    """

    url: str
    io_threads: int

    def walk(self) -> Iterator[FileEntry]:
        """List every file below the root, in no particular order; nothing where there is no root.

        Raises:
            ScanError: A folder cannot be listed.
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

    def move_in(self, name: str, path: Path) -> None:
        """Write what a local file holds, whole or not at all, and remove it; raises as `write`."""
        ...

    def sync(self, names: Iterable[str]) -> None:
        """Make sure that files just written are still there after a power failure."""
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


class LocalStore:
    """A folder of this machine."""

    io_threads = 8

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)
        self._folders: set[Path] = set()

    def walk(self) -> Iterator[FileEntry]:
        """See `Store`; hidden files are left out."""
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self.root / folder) as entries:
                    for entry in entries:
                        if entry.name.startswith("."):
                            continue
                        name = f"{folder}{entry.name}"
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(f"{name}/")
                        elif entry.is_dir():
                            yield FileEntry(f"{name}/", 0, "")
                        else:
                            yield _local_entry(name, entry)
            except OSError as error:
                if isinstance(error, FileNotFoundError) and not folder:
                    return
                raise ScanError(
                    f"cannot list the folder {self.root / folder}: {error.strerror}"
                ) from error

    def find(self, name: str) -> FileEntry | None:
        """See `Store`."""
        try:
            status = self.path(name).stat()
        except OSError:
            return None
        return FileEntry(name, status.st_size, str(status.st_mtime_ns))

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytes:
        """See `Store`."""
        try:
            with self.path(name).open("rb", buffering=0) as file:
                if start:
                    file.seek(start)
                if length is None:
                    return file.readall()
                return _read_exactly(file.read, length)
        except OSError as error:
            if not self.root.exists():
                raise StoreLostError(f"{self.root} is gone: {error.strerror}") from error
            raise TileError(f"cannot be read: {error.strerror}") from error

    def open(self, name: str) -> BinaryIO:
        """See `Store`."""
        try:
            return self.path(name).open("rb")
        except OSError as error:
            raise ScanError(f"cannot open {self.path(name)}: {error.strerror}") from error

    def write(self, name: str, content: bytes | memoryview) -> None:
        """See `Store`."""

        def fill(descriptor: int) -> None:
            view = memoryview(content).cast("B")
            while view.nbytes:
                view = view[os.write(descriptor, view) :]

        self._write(name, fill)

    def move_in(self, name: str, path: Path) -> None:
        """See `Store`; on one file system it is a rename."""
        target = self.path(name)
        try:
            self._make_folder(target.parent)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            try:
                path.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._write(name, lambda descriptor: _copy(path, descriptor))
                path.unlink()
        except OSError as error:
            raise StoreLostError(f"cannot write {target}: {error.strerror}") from error
        self.sync([name])

    def sync(self, names: Iterable[str]) -> None:
        """See `Store`: fsync of the folders."""
        for folder in {self.path(name).parent for name in names}:
            try:
                _sync_folder(folder)
            except OSError as error:
                raise StoreLostError(f"cannot write to {folder}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """See `Store`."""
        self.path(name).unlink(missing_ok=True)

    def remove_parts(self) -> None:
        """See `Store`."""
        if self.root.is_dir():
            for path in self.root.rglob(f".*{PART_SUFFIX}"):
                path.unlink(missing_ok=True)

    def local_path(self, name: str) -> Path | None:
        """See `Store`."""
        return self.path(name)

    def path(self, name: str) -> Path:
        """Return the path of a relative name.

        Raises:
            TileError: The name leads out of the root.
        """
        return self.root / safe_name(name)

    def _write(self, name: str, fill: Callable[[int], None]) -> None:
        path = self.path(name)
        # Of fixed length, so that a long name has a temporary one too.
        digest = hashlib.blake2b(path.name.encode(), digest_size=8).hexdigest()
        part = path.with_name(f".{digest}{PART_SUFFIX}")
        try:
            self._make_folder(path.parent)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                fill(descriptor)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            part.rename(path)
        except OSError as error:
            _forget(part)
            if error.errno in _BAD_NAMES:
                raise TileError(f"cannot be written as {name}: {error.strerror}") from error
            raise StoreLostError(f"cannot write {path}: {error.strerror}") from error

    def _make_folder(self, folder: Path) -> None:
        if folder in self._folders:
            return
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)
        self._folders.add(folder)


class ObjectStore:
    """A prefix of an object store, such as `s3://bucket/lot1`, through fsspec.

    Addresses and keys come from the environment that its own tools read, such as AWS_ENDPOINT_URL.
    A store that does not answer is asked again for a while.
    """

    io_threads = 32

    def __init__(self, url: str, *, patience_s: float) -> None:
        """Connect.

        Args:
            url: Scheme, bucket and prefix.
            patience_s: For how long a store that does not answer is asked again.

        Raises:
            ScanError: The scheme is unknown.
            MissingExtraError: fsspec or the package for the scheme is not installed.
        """
        self.url = url.rstrip("/")
        self._patience_s = patience_s
        fsspec = load_extra("fsspec", purpose=f"the object store {url}")
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if url.startswith(("s3://", "s3a://")):
            options["config_kwargs"] = {
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "read_timeout": _READ_TIMEOUT_S,
                "retries": {"max_attempts": 1},
            }
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url, **options)
        except ImportError as error:
            raise MissingExtraError(f"{url}: {error}; pip install 'semsr[scan]'") from error
        except ValueError as error:
            raise ScanError(f"{url}: {error}") from error

    def walk(self) -> Iterator[FileEntry]:
        """See `Store`; the listing of one folder at a time is held in memory."""
        waiting = [self._root]
        while waiting:
            folder = waiting.pop()
            try:
                found = self._patiently(self._files.ls, folder, detail=True)
            except FileNotFoundError:
                continue
            except PermissionError as error:
                raise ScanError(f"cannot list {folder}: {error}") from error
            for info in found:
                if info["type"] == "directory":
                    waiting.append(info["name"])
                elif not info["name"].endswith("/") and info["name"] != folder:
                    yield self._entry(info)

    def find(self, name: str) -> FileEntry | None:
        """See `Store`."""
        try:
            return self._entry(self._patiently(self._files.info, self._path(name)))
        except FileNotFoundError:
            return None

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytes:
        """See `Store`."""
        end = None if length is None else start + length
        try:
            return self._patiently(
                self._files.cat_file, self._path(name), start=start or None, end=end
            )
        except OSError as error:
            raise TileError(f"cannot be read: {error}") from error

    def open(self, name: str) -> BinaryIO:
        """See `Store`."""
        try:
            return self._patiently(self._files.open, self._path(name), "rb")
        except OSError as error:
            raise ScanError(f"cannot open {self.url}/{name}: {error}") from error

    def write(self, name: str, content: bytes | memoryview) -> None:
        """See `Store`: one PUT."""
        try:
            self._patiently(self._files.pipe_file, self._path(name), bytes(content))
        except OSError as error:
            raise StoreLostError(f"cannot write {self.url}/{name}: {error}") from error

    def move_in(self, name: str, path: Path) -> None:
        """See `Store`: one PUT, or a multipart upload."""
        try:
            self._patiently(self._files.put_file, str(path), self._path(name))
        except OSError as error:
            raise StoreLostError(f"cannot write {self.url}/{name}: {error}") from error
        path.unlink()

    def sync(self, names: Iterable[str]) -> None:
        """See `Store`: an object store has answered only when it keeps the object."""

    def remove(self, name: str) -> None:
        """See `Store`."""
        try:
            self._patiently(self._files.rm_file, self._path(name))
        except FileNotFoundError:
            return

    def remove_parts(self) -> None:
        """See `Store`: an upload that was not completed is not visible."""

    def local_path(self, name: str) -> Path | None:
        """See `Store`: it has none."""
        del name

    def download(self, name: str, path: Path) -> None:
        """Copy an object to this machine; raises as `read`."""
        try:
            self._patiently(self._files.get_file, self._path(name), str(path))
        except OSError as error:
            raise TileError(f"cannot be read: {error}") from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{safe_name(name)}"

    def _entry(self, info: dict[str, Any]) -> FileEntry:
        stamp = info.get("ETag") or info.get("LastModified") or info.get("mtime") or ""
        name = info["name"].removeprefix(f"{self._root}/")
        return FileEntry(name, int(info["size"]), str(stamp).strip('"'))

    def _patiently(self, work: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """Call until the store answers or patience ends; what it answers is passed on.

        Raises:
            FileNotFoundError: It has no such object.
            PermissionError: It does not allow it.
            StoreLostError: It does not answer.
        """
        give_up_s = time.monotonic() + self._patience_s
        pause_s = 0.1
        while True:
            try:
                return work(*arguments, **options)
            except (FileNotFoundError, PermissionError, IsADirectoryError):
                raise
            except Exception as error:
                if time.monotonic() + pause_s > give_up_s:
                    raise StoreLostError(
                        f"{self.url} has not answered for {self._patience_s:g} s: {error}"
                    ) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def open_store(url: str, *, patience_s: float) -> Store:
    """Open a local folder (a path, or `file://…`) or an object store (any other scheme).

    Raises:
        ScanError: The scheme is unknown.
        MissingExtraError: What it needs is not installed.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStore(Path(url))
    if scheme == "file":
        return LocalStore(Path(rest))
    return ObjectStore(url, patience_s=patience_s)


def safe_name(name: str) -> str:
    """Return a relative name as it is.

    Raises:
        TileError: It is absolute or leads upwards, as names in an archive can.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise TileError(f"the name {name!r} leads out of its folder")
    return name


def _local_entry(name: str, path: os.DirEntry[str]) -> FileEntry:
    try:
        status = path.stat()
    except OSError:
        # A broken link: listed, so that reading it says what is wrong.
        return FileEntry(name, 0, "")
    return FileEntry(name, status.st_size, str(status.st_mtime_ns))


def _read_exactly(read: Callable[[int], bytes], length: int) -> bytes:
    pieces: list[bytes] = []
    while length > 0 and (piece := read(length)):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def _copy(path: Path, descriptor: int) -> None:
    with path.open("rb") as source, os.fdopen(os.dup(descriptor), "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget(part: Path) -> None:
    """Free the space of what could not be written; the error that led here counts more."""
    try:
        part.unlink(missing_ok=True)
    except OSError:
        return
