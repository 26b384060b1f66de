"""Stores for scans that clients submit: no symbolic link leads out of the allowed folders.

For reading, a store opens a file and then checks the path of its descriptor, so that no link can
replace the file in between. For writing, it opens each part of a path from an allowed folder
downwards, and follows no links. Hard links are allowed, as they look like any other file.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from service.scans.errors import OutsideRootsError, ScanError, StoreLostError
from service.scans.local_store import LocalStore, Opener
from service.scans.object_store import ObjectStore
from service.scans.part_file import PartFile, copying
from service.scans.stores import FileEntry, safe_name

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ConfinedStore(LocalStore):
    """A folder of this machine within allowed folders.

    Links are followed for reading if they lead to a regular file in an allowed folder, and never
    for writing.
    """

    is_confined = True

    def __init__(
        self, root: Path, allowed: Sequence[Path], *, on_entry: Callable[[], None] = lambda: None
    ) -> None:
        """Find the allowed folder that the root lies in.

        Args:
            root: Folder, which need not exist yet.
            allowed: Real paths of the allowed folders.
            on_entry: Callback for every listed file; an exception ends the listing.

        Raises:
            OutsideRootsError: The root lies in no allowed folder.
        """
        real = Path(os.path.realpath(root))
        anchor = containing(real, allowed)
        if anchor is None:
            raise OutsideRootsError(f"{root} leads out of the allowed folders")
        super().__init__(real)
        self.url = str(root)
        self._allowed = allowed
        self._anchor = anchor
        self._below = real.relative_to(anchor).parts
        self._on_entry = on_entry
        self._held: list[int] = []

    def close(self) -> None:
        """Close the descriptors of `local_path`."""
        while self._held:
            os.close(self._held.pop())

    def walk(self) -> Iterator[FileEntry]:
        """See `Store`."""
        for entry in super().walk():
            self._on_entry()
            yield entry

    def find(self, name: str) -> FileEntry | None:
        """See `Store`."""
        try:
            with self._open(name, buffering=0) as file:
                status = os.fstat(file.fileno())
        except OSError:
            return None
        return FileEntry(name, status.st_size, str(status.st_mtime_ns))

    def check_whole(self) -> None:
        """See `Store`: no link is allowed."""
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                self._on_entry()
                path = Path(folder) / name
                if path.is_symlink():
                    raise OutsideRootsError(f"{path} is a link, which is not followed here")

    def local_path(self, name: str) -> Path | None:
        """See `Store`: the path of a descriptor, which refers to this file until `close`."""
        try:
            descriptor = self._open_checked(str(self.path(name)), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ScanError(f"cannot open {self.path(name)}: {error.strerror}") from error
        self._held.append(descriptor)
        return _descriptor_path(descriptor)

    def move_in(self, name: str, path: Path) -> None:
        """See `Store`."""
        try:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            with self._folder(name, create=True) as (folder, last):
                # A rename replaces a link and does not follow it.
                os.rename(path, last, dst_dir_fd=folder)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise StoreLostError(f"cannot write {self.path(name)}: {error.strerror}") from error
            self._write(name, copying(path))
            path.unlink()
        self.sync([name])

    def sync(self, names: Iterable[str]) -> None:
        """See `Store`."""
        for name in {str(PurePosixPath(name).parent / "x") for name in names}:
            try:
                with self._folder(name, create=False) as (folder, _):
                    os.fsync(folder)
            except OSError as error:
                raise StoreLostError(
                    f"cannot write to {self.path(name).parent}: {error.strerror}"
                ) from error

    def remove(self, name: str) -> None:
        """See `Store`."""
        with contextlib.suppress(FileNotFoundError), self._folder(name, create=False) as place:
            folder, last = place
            os.unlink(last, dir_fd=folder)

    def _opener(self) -> Opener:
        return self._open_checked

    def _open_checked(self, path: str, flags: int) -> int:
        """Open a file for reading, then check that it is a regular file in an allowed folder.

        Raises:
            OSError: It cannot be opened, is not a regular file, or lies outside.
        """
        # Opening a pipe would otherwise wait for a writer.
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise PermissionError(errno.EACCES, "not a regular file")
            real = _descriptor_path(descriptor).readlink()
            if containing(real, self._allowed) is None:
                raise PermissionError(errno.EACCES, "a link leads out of the allowed folders")
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    @contextlib.contextmanager
    def _part(self, name: str) -> Generator[PartFile]:
        with (
            self._folder(name, create=True) as (folder, last),
            PartFile(last, folder=folder) as part,
        ):
            yield part

    @contextlib.contextmanager
    def _folder(self, name: str, *, create: bool) -> Generator[tuple[int, str]]:
        """Open the folder of a name from the allowed folder downwards, without following links.

        Yields:
            Its descriptor, and the last part of the name.

        Raises:
            StoreLostError: The root cannot be opened.
            OSError: A folder below the root cannot be opened.
        """
        *parts, last = PurePosixPath(safe_name(name)).parts
        descriptor = self._open_root(create=create)
        for part in parts:
            descriptor = _step(descriptor, part, create=create)
        try:
            yield descriptor, last
        finally:
            os.close(descriptor)

    def _open_root(self, *, create: bool) -> int:
        """Open the root; its failure is an error of the store and not of one file.

        Raises:
            StoreLostError: It is not a folder, or has become a link.
        """
        try:
            descriptor = os.open(self._anchor, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for part in self._below:
                # A root that has been seen is not made again: its files would be missing.
                descriptor = _step(descriptor, part, create=create and self._device is None)
        except OSError as error:
            raise StoreLostError(f"cannot write to {self.root}: {error.strerror}") from error
        try:
            self._check_device(os.fstat(descriptor).st_dev)
        except StoreLostError:
            os.close(descriptor)
            raise
        return descriptor


class ConfinedObjectStore(ObjectStore):
    """An allowed prefix of an object store, which has no links; see `Roots.check`."""

    is_confined = True

    def __init__(self, url: str, *, patience_s: float, on_entry: Callable[[], None]) -> None:
        """Connect; see `ObjectStore` and `ConfinedStore`."""
        super().__init__(url, patience_s=patience_s)
        self._on_entry = on_entry

    def walk(self) -> Iterator[FileEntry]:
        """See `Store`."""
        for entry in super().walk():
            self._on_entry()
            yield entry


def containing(path: Path, folders: Sequence[Path]) -> Path | None:
    """Return the folder that a real path is or lies in, or None."""
    return next((folder for folder in folders if path.is_relative_to(folder)), None)


def _step(folder: int, part: str, *, create: bool) -> int:
    """Open a folder within an open one, and close the outer one, also after an error."""
    try:
        return _enter(folder, part, create=create)
    finally:
        os.close(folder)


def _enter(folder: int, part: str, *, create: bool) -> int:
    try:
        return os.open(part, _FOLDER_FLAGS, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, dir_fd=folder)
        os.fsync(folder)
    return os.open(part, _FOLDER_FLAGS, dir_fd=folder)


def _descriptor_path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}")
