"""The file of a journal: its tables in SQLite, its transactions, its errors."""

import contextlib
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.scans.errors import ScanError, StoreLostError

FORMAT_VERSION = 2

_SCHEMA = """
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE tiles (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    stem TEXT NOT NULL,
    place INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    stamp TEXT NOT NULL,
    target TEXT UNIQUE,
    position INTEGER,
    status TEXT NOT NULL DEFAULT 'pending',
    error TEXT,
    input_sha256 TEXT,
    output TEXT,
    output_bytes INTEGER,
    output_sha256 TEXT,
    milliseconds REAL,
    non_finite REAL,
    saturated REAL,
    consistency REAL,
    consistency_worst REAL,
    residual REAL,
    domain_distance REAL,
    pixel_size_x_nm REAL,
    pixel_size_y_nm REAL,
    metadata TEXT
);
CREATE INDEX by_status ON tiles (status, position);
CREATE UNIQUE INDEX by_position ON tiles (position);
CREATE INDEX by_output ON tiles (output);
CREATE TABLE sidecars (stem TEXT PRIMARY KEY, name TEXT NOT NULL, place INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL);
"""


class JournalFile:
    """A journal in SQLite; safe for the threads of one process."""

    def __init__(self, path: Path) -> None:
        """Open a journal, or make an empty one.

        Raises:
            ScanError: The file is not a journal, is damaged, or has another format.
            StoreLostError: The disk is full.
        """
        self._path = path
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            # A power failure may lose the last commits, never the file: those tiles are done again.
            self._database.execute("PRAGMA synchronous = NORMAL")
            [(version,)] = self._database.execute("PRAGMA user_version")
            if version == 0:
                self._database.executescript(
                    f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT_VERSION}; COMMIT;"
                )
            elif version != FORMAT_VERSION:
                raise ScanError(
                    f"the journal {path} has format {version}; expected {FORMAT_VERSION}"
                )
        except sqlite3.Error as error:
            raise _failure(path, error) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query."""
        with self._lock:
            try:
                return self._database.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise _failure(self._path, error) from error

    def write(self, query: str, values: Sequence[Any] = ()) -> None:
        """Run one statement in a transaction of its own."""
        with self.transaction() as database:
            database.execute(query, values)

    def transaction(self) -> "_Transaction":
        """Return a context whose statements take effect together, or not at all."""
        return _Transaction(self._path, self._database, self._lock)


def count_done(path: Path) -> int:
    """Count the done tiles of a journal; opens it read-only.

    Returns:
        Number of tiles; 0 for a missing or empty journal.

    Raises:
        ScanError: The file is not a journal, or is damaged.
    """
    if not path.exists():
        return 0
    # Without a write-ahead log, SQLite opens the file without making its index (-shm) either.
    mode = "ro" if path.with_name(f"{path.name}-wal").exists() else "ro&immutable=1"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)
        ) as database:
            [(version,)] = database.execute("PRAGMA user_version")
            if version == 0:
                return 0
            [(count,)] = database.execute("SELECT count(*) FROM tiles WHERE status = 'done'")
    except sqlite3.Error as error:
        raise _failure(path, error) from error
    return count


def _failure(path: Path, error: sqlite3.Error) -> ScanError:
    """Return the error of the scan: a lost store if the disk fails, else a damaged file."""
    if isinstance(error, sqlite3.OperationalError):
        return StoreLostError(f"the journal {path} cannot be used: {error}")
    return ScanError(
        f"the journal {path} is damaged: {error}; remove it, and every tile is computed again"
    )


class _Transaction:
    """A context whose statements take effect together, or not at all."""

    def __init__(self, path: Path, database: sqlite3.Connection, lock: threading.Lock) -> None:
        self._path = path
        self._database = database
        self._lock = lock

    def __enter__(self) -> sqlite3.Connection:
        self._lock.acquire()
        try:
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._lock.release()
            raise _failure(self._path, error) from error
        return self._database

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        try:
            if kind is None:
                self._database.execute("COMMIT")
            elif self._database.in_transaction:
                self._database.execute("ROLLBACK")
        except sqlite3.Error as failure:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise _failure(self._path, failure) from failure
        finally:
            self._lock.release()
        if isinstance(error, sqlite3.Error):
            raise _failure(self._path, error) from error
