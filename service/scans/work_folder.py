"""The work folder of a scan: its journal, its lock, its shards and copies of remote files."""

import fcntl
import os
import shutil
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from service.scans.errors import FolderHeldError, ScanError, StoreLostError

_JOURNAL = "journal.sqlite"
_LOCK = "lock"
_KLARF = "source.klarf.gz"
# Files of a scan; the journal last, so that it remains if the process is killed.
_OWN_FILES = (
    "manifest.csv",
    "manifest.parquet",
    _KLARF,
    f"{_JOURNAL}-journal",
    f"{_JOURNAL}-shm",
    f"{_JOURNAL}-wal",
    _JOURNAL,
)


class WorkFolder:
    """A work folder; one process at a time holds its lock, which ends with the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    @property
    def journal_path(self) -> Path:
        """Path of the journal."""
        return self.path / _JOURNAL

    @property
    def klarf_path(self) -> Path:
        """Path of the copy of a KLARF source."""
        return self.path / _KLARF

    @property
    def spool(self) -> Path:
        """Folder for copies of remote files."""
        return self.path / "spool"

    @property
    def shards(self) -> Path:
        """Folder for shards that are not part of the sink."""
        return self.path / "shards"

    def forget(self) -> None:
        """Remove the files of the scan only, so that it starts from scratch."""
        for folder in (self.shards, self.spool):
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
        for name in _OWN_FILES:
            (self.path / name).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Make the folder and take the lock.

        Raises:
            FolderHeldError: Another process holds it.
            ScanError: The folder has files and is not a work folder.
            StoreLostError: The folder cannot be created.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._check_own()
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StoreLostError(f"cannot use the folder {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise FolderHeldError(f"another process runs the scan of {self.path}") from error
        return self

    def _check_own(self) -> None:
        """Reject a folder with other files, as a scan could remove them."""
        lock = self.path / _LOCK
        if self.journal_path.is_file() or (lock.is_file() and lock.stat().st_size == 0):
            return
        found = sorted(path.name for path in self.path.iterdir())
        if found:
            raise ScanError(
                f"the work folder {self.path} holds {found[0]!r} and no journal of a scan; "
                "expected an empty folder, a new one, or that of an earlier run"
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.spool, ignore_errors=True)
        os.close(self._lock)


def default_work_folder(sink: str) -> Path:
    """Return the default work folder of a scan into a sink.

    It lies next to a local sink, and in the user's state folder for an object store.

    Raises:
        ScanError: The sink is the root folder `/`.
    """
    scheme, separator, rest = sink.rstrip("/").partition("://")
    if not separator or scheme == "file":
        path = Path(rest or scheme or "/")
        if path.name in {"", ".."}:
            path = path.resolve()  # of `.` and `..` the path alone has no name
        if not path.name:
            raise ScanError(
                f"the sink {sink} has no folder next to it for the work folder: name one"
            )
        return path.with_name(f"{path.name}.scan")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "semsr" / "scans" / sha256(sink.encode()).hexdigest()[:16]
