"""The image files that a KLARF file names, found by the paths that a tool wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from service.scans.errors import ScanError, TileError
from service.scans.object_store import ObjectStore
from service.scans.stores import FileEntry, Store, safe_name

_TIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file of images.

    Attributes:
        name: Name in the store.
        entry: Its entry, or None if it is missing.
    """

    name: str
    entry: FileEntry | None


class ImageFiles:
    """The files in the folder of a KLARF file, and below it."""

    def __init__(self, store: Store) -> None:
        """List an object store; in a local folder, each file is looked up when it is named.

        Args:
            store: Store of the KLARF file and its images.
        """
        self._store = store
        # One request for each of 100,000 images would take an hour.
        is_remote = isinstance(store, ObjectStore)
        self._entries = {entry.name: entry for entry in store.walk()} if is_remote else None

    def find(self, name: str) -> FileEntry | None:
        """Return the entry of a file, or None."""
        if self._entries is not None:
            return self._entries.get(name)
        return self._store.find(name)

    def find_written(self, written: str) -> ImageFile:
        """Find a file by its path as written, or by the end of it.

        Tools write paths of their own machine, with a drive and backslashes. Of such a path, the
        longest end that exists in the folder of the KLARF file counts.
        """
        parts = written.replace("\\", "/").split("/")
        missing = ""
        for first, part in enumerate(parts):
            try:
                name = str(PurePosixPath(safe_name("/".join(parts[first:]))))
            except TileError:
                continue  # absolute, or leads upwards
            if part.endswith(":"):
                continue  # a drive
            entry = self.find(name)
            if entry is not None:
                return ImageFile(name, entry)
            missing = missing or name
        return ImageFile(missing or "(no file)", None)


def check_apart(url: str, klarf: str, found: Mapping[str, ImageFile]) -> None:
    """Reject two paths that end in the same file: one of them would get the wrong images.

    Args:
        url: URL of the KLARF file.
        klarf: Name of the KLARF file.
        found: The file of each path as written.

    Raises:
        ScanError: There are two such paths.
    """
    known: dict[str, str] = {}
    for written, file in found.items():
        path = str(PurePosixPath(written.replace("\\", "/")))
        other = known.setdefault(file.name, path)
        if other != path and file.entry is not None:
            raise ScanError(
                f"{url} names {other} and {path}, and both could be {file.name}; "
                f"expected the images under these paths in the folder of {klarf}"
            )


def is_tiff(name: str) -> bool:
    """Return whether a file is named like a TIFF."""
    return PurePosixPath(name).suffix.lower() in _TIFF_SUFFIXES
