"""The folder of one scan: its journal, its lock, its shards and copies of remote containers."""

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from service.scans.errors import FolderHeldError, StoreLostError

_JOURNAL = "journal.sqlite"


class WorkFolder:
    """Held by one process at a time; a killed one lets go of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    @property
    def journal_path(self) -> Path:
        """Where the journal is."""
        return self.path / _JOURNAL

    @property
    def spool(self) -> Path:
        """Where copies of remote containers are."""
        return self.path / "spool"

    @property
    def shards(self) -> Path:
        """Where shards are that are no part of the sink."""
        return self.path / "shards"

    def forget(self) -> None:
        """Remove everything but the lock: the scan begins anew."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def __enter__(self) -> Self:
        """Make the folder and take the lock.

        Raises:
            FolderHeldError: Another process holds it.
            StoreLostError: The folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StoreLostError(f"cannot use the folder {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise FolderHeldError(f"another process runs the scan of {self.path}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.spool, ignore_errors=True)
        os.close(self._lock)
