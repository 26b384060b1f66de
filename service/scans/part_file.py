"""A local file under a temporary name until it is whole and durable."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

PART_SUFFIX = ".semsr-part"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Writes the content of a file to its descriptor.
Fill = Callable[[int], None]


class PartFile:
    """A file that `publish` renames to its final path; without that, the context removes it.

    Every method may raise OSError.
    """

    def __init__(self, path: str, *, folder: int | None = None) -> None:
        """Open it for writing.

        Args:
            path: Path that it gets in the end.
            folder: Descriptor of the folder that the path is relative to, or None.
        """
        self._path = path
        self._folder = folder
        # Of fixed length, for long names too; random, so that two processes that write the same
        # tile (one on a node that was thought lost) do not mix their bytes.
        folders, slash, _ = path.rpartition("/")
        self._part = f"{folders}{slash}.{secrets.token_hex(8)}{PART_SUFFIX}"
        self._descriptor: int | None = os.open(self._part, _FLAGS, 0o666, dir_fd=folder)

    def __enter__(self) -> "PartFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            # Frees the space of a partial file; the error that led here matters more.
            with contextlib.suppress(OSError):
                os.unlink(self._part, dir_fd=self._folder)

    def write(self, fill: Fill) -> None:
        """Write the content, and let the disk begin to store it."""
        descriptor = self._open()
        fill(descriptor)
        # Linux begins to write the dirty pages without waiting: the files of a group are written
        # together, and `sync` waits for the slowest only.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Wait until the content is durable."""
        descriptor = self._open()
        os.fsync(descriptor)
        # The file is not read soon. Its pages are free for the next file, which costs a third of
        # new pages, and a lot does not displace other data in the page cache.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def publish(self) -> None:
        """Rename it to its final path."""
        os.rename(self._part, self._path, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        descriptor, self._descriptor = self._open(), None
        os.close(descriptor)

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"{self._path} has been published")
        return self._descriptor


def filling(content: bytes | memoryview) -> Fill:
    """Return a function that writes these bytes to a descriptor."""

    def fill(descriptor: int) -> None:
        view = memoryview(content).cast("B")
        while view.nbytes:
            view = view[os.write(descriptor, view) :]

    return fill


def copying(path: Path) -> Fill:
    """Return a function that copies this file to a descriptor."""

    def fill(descriptor: int) -> None:
        with path.open("rb") as source, os.fdopen(os.dup(descriptor), "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)

    return fill


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write or replace a file; its name appears only once the content is durable.

    If an exception interrupts the write (full disk, KeyboardInterrupt), the previous file stays and
    the temporary file is removed. SIGKILL leaves the temporary file.

    Raises:
        OSError: It cannot be written.
    """
    with PartFile(str(path)) as part:
        part.write(filling(content))
        part.sync()
        part.publish()
