"""A folder of this machine as a store."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from service.scans.errors import ScanError, StoreLostError, TileError
from service.scans.part_file import PART_SUFFIX, Fill, PartFile, copying, filling
from service.scans.stores import ESCAPE, FileEntry, printable, safe_name

# Errors of one name rather than of the store.
_BAD_NAMES = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EISDIR, errno.ENOTDIR, errno.ELOOP})
# Opens a path with flags and returns a descriptor, see `open`.
Opener = Callable[[str, int], int]


class LocalStore:
    """A folder of this machine."""

    # Files that wait for the disk in parallel share the commits of its journal, and those of one
    # thread are written together. More of them would share more, but each holds an image.
    io_at_once = 32
    io_per_thread = 4
    is_confined = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)
        self._prefix = f"{root}/"
        self._device = _device(root)
        # Folders, relative to the root, that are known to exist.
        self._made: set[str] = set()

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
                        else:
                            yield _local_entry(printable(name), entry)
            except FileNotFoundError:
                continue  # no root, or a folder that has gone since it was seen
            except OSError as error:
                is_refused = isinstance(error, PermissionError | NotADirectoryError)
                raise (ScanError if is_refused else StoreLostError)(
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
            with self._open(name, buffering=0) as file:
                if start:
                    file.seek(start)
                if length is None:
                    return file.read()
                return _read_exactly(file.read, length)
        except OSError as error:
            if _device(self.root) != self._device:
                raise StoreLostError(f"{self.root} is gone: {error.strerror}") from error
            if isinstance(error, FileNotFoundError) and ESCAPE in name:
                raise TileError("cannot be read: its name is not UTF-8; rename it") from error
            if name.endswith("/"):
                raise TileError("cannot be read: it is not a regular file") from error
            raise TileError(f"cannot be read: {error.strerror}") from error

    def open(self, name: str) -> BinaryIO:
        """See `Store`."""
        try:
            return cast("BinaryIO", self._open(name))
        except OSError as error:
            raise ScanError(f"cannot open {self.path(name)}: {error.strerror}") from error

    def write(self, name: str, content: bytes | memoryview) -> None:
        """See `Store`."""
        self._write(name, filling(content))

    def write_all(self, files: Sequence[tuple[str, bytes | memoryview]]) -> list[TileError | None]:
        """See `Store`."""
        return self._write_all([(name, filling(content)) for name, content in files])

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
                self._write(name, copying(path))
                path.unlink()
        except OSError as error:
            raise StoreLostError(f"cannot write {target}: {error.strerror}") from error
        self.sync([name])

    def sync(self, names: Iterable[str]) -> None:
        """See `Store`: fsync of the folders."""
        self._check_device(_device(self.root))
        for folder in {self.path(name).parent for name in names}:
            try:
                _sync_folder(folder)
            except OSError as error:
                raise StoreLostError(f"cannot write to {folder}: {error.strerror}") from error

    def check_whole(self) -> None:
        """See `Store`: links may lead anywhere."""

    def remove(self, name: str) -> None:
        """See `Store`."""
        self.path(name).unlink(missing_ok=True)

    def remove_parts(self) -> None:
        """See `Store`."""
        if os.path.isdir(self.root):  # noqa: PTH112 (Path.is_dir raises for a name too long)
            for path in self.root.rglob(f".*{PART_SUFFIX}"):
                # One that cannot be removed, as another user's, costs space and nothing more.
                with contextlib.suppress(OSError):
                    path.unlink()

    def local_path(self, name: str) -> Path | None:
        """See `Store`."""
        return self.path(name)

    def path(self, name: str) -> Path:
        """Return the path of a relative name.

        Raises:
            TileError: The name leads out of the root.
        """
        return self.root / safe_name(name)

    def _check_device(self, device: int | None) -> None:
        """Check that the root is still the folder that files were written to.

        Raises:
            StoreLostError: It lies on another file system than before.
        """
        self._device = self._device or device
        if device != self._device:
            raise StoreLostError(
                f"{self.root} is on another file system than it was: unmounted, or mounted upon"
            )

    def _opener(self) -> Opener | None:
        """Return the function that opens files for reading; None stands for `os.open`."""
        return None

    def _open(self, name: str, *, buffering: int = -1) -> IO[Any]:
        # Path.open takes no opener.
        return open(f"{self._prefix}{safe_name(name)}", "rb", buffering, opener=self._opener())

    def _write(self, name: str, fill: Fill) -> None:
        [failure] = self._write_all([(name, fill)])
        if failure is not None:
            raise failure

    def _write_all(self, files: Sequence[tuple[str, Fill]]) -> list[TileError | None]:
        failures: list[TileError | None] = [None] * len(files)
        parts: dict[int, PartFile] = {}

        def begin(index: int) -> None:
            name, fill = files[index]
            parts[index] = stack.enter_context(self._part(name))
            parts[index].write(fill)

        steps: tuple[Callable[[int], None], ...] = (
            begin,
            lambda index: parts[index].sync(),
            lambda index: parts[index].publish(),
        )
        with contextlib.ExitStack() as stack:
            for step in steps:
                for index, (name, _) in enumerate(files):
                    if failures[index] is None:
                        failures[index] = self._blamed(name, step, index)
        return failures

    def _blamed(self, name: str, step: Callable[[int], None], index: int) -> TileError | None:
        """Do one step of writing a file; returns errors of the file, raises errors of the store."""
        try:
            step(index)
        except TileError as error:
            return error
        except OSError as error:
            failure = cannot_write(self.root / name, name, error)
            if isinstance(failure, StoreLostError):
                raise failure from error
            return failure
        return None

    @contextlib.contextmanager
    def _part(self, name: str) -> Generator[PartFile]:
        """Open a file under a temporary name; it is removed if it is not published.

        Raises:
            TileError: The name leads out of the root.
            OSError: It cannot be opened.
        """
        folders, _, _ = safe_name(name).rpartition("/")
        if folders not in self._made:
            self._make_folder((self.root / name).parent)
            self._made.add(folders)
        with PartFile(f"{self._prefix}{name}") as part:
            yield part

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)


def cannot_write(path: Path, name: str, error: OSError) -> StoreLostError | TileError:
    """Return the error for a failed write: TileError for a bad name, else StoreLostError."""
    if error.errno in _BAD_NAMES:
        return TileError(f"cannot be written as {name}: {error.strerror}")
    return StoreLostError(f"cannot write {path}: {error.strerror}")


def _device(path: Path) -> int | None:
    """Return the number of the file system of a path; None if the path does not exist.

    The inode cannot be used: some file systems renumber their inodes.
    """
    try:
        return path.stat().st_dev
    except OSError:
        return None


def _local_entry(name: str, path: os.DirEntry[str]) -> FileEntry:
    try:
        status = path.stat()
    except OSError:
        # A broken link is listed, so that reading it reports the error.
        return FileEntry(name, 0, "")
    if not stat.S_ISREG(status.st_mode):
        return FileEntry(f"{name}/", 0, "")
    return FileEntry(name, status.st_size, str(status.st_mtime_ns))


def _read_exactly(read: Callable[[int], bytes], length: int) -> bytes:
    pieces: list[bytes] = []
    while length > 0 and (piece := read(length)):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
