"""The two databases for the list of scans; each runs one statement at a time.

SQLite serves the processes of one machine, PostgreSQL serves replicas on several machines. Both run
the same statements of `store`. In them, `?` stands for a value, and `{now}` for the seconds since
1970 by the clock of the database. Replicas with different clocks thus agree when a lease expires.
"""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from engines.installation import install_hint
from service.scans.errors import MissingExtraError

Row = tuple[Any, ...]
_TIMEOUT_S = 5
# Arbitrary, unique number: replicas that start together make the tables one after the other.
_SETUP_LOCK = 7_390_151


class DatabaseError(Exception):
    """The database does not answer, or its answer is not the expected one."""


class UnusableDatabaseError(DatabaseError):
    """The database is damaged or has another format, and only the operator can repair it.

    Attributes:
        reason: Reason without the path, which is not for clients.
    """

    def __init__(self, reason: str, *, place: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.reason = reason


class Database(Protocol):
    """Runs statements, each in a transaction of its own; safe for threads."""

    def run(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement.

        Returns:
            Rows of SELECT and of RETURNING.

        Raises:
            DatabaseError: The database does not answer.
            TakenError: The statement violates a uniqueness constraint.
        """
        ...

    def set_up(self, statements: Sequence[str]) -> None:
        """Make the tables in one transaction, which excludes other processes; raises as `run`."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class TakenError(Exception):
    """A statement violates a uniqueness constraint."""


class SqliteDatabase:
    """An SQLite file in WAL mode, for the processes of one machine."""

    _NOW = "((julianday('now') - 2440587.5) * 86400.0)"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def run(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """See `Database`."""
        text = statement.replace("{now}", self._NOW)
        with self._lock:
            try:
                return self._connected().execute(text, tuple(values)).fetchall()
            except sqlite3.IntegrityError as error:
                raise TakenError(str(error)) from error
            except (sqlite3.Error, OSError) as error:
                raise self._trouble(error) from error

    def set_up(self, statements: Sequence[str]) -> None:
        """See `Database`."""
        with self._lock:
            try:
                script = ";\n".join(statements)
                self._connected().executescript(f"BEGIN IMMEDIATE;\n{script};\nCOMMIT;")
            except (sqlite3.Error, OSError) as error:
                raise self._trouble(error) from error

    def close(self) -> None:
        """See `Database`."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _trouble(self, error: sqlite3.Error | OSError) -> DatabaseError:
        # The low byte is the kind of error, the other bytes its details.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return UnusableDatabaseError(f"it is damaged ({error})", place=str(self._path))
        return DatabaseError(f"{self._path}: {error}")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, timeout=_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode = WAL")
            # A client whose scan was accepted must find it after a power failure.
            connection.execute("PRAGMA synchronous = FULL")
            self._connection = connection
        return self._connection


class PostgresDatabase:
    """PostgreSQL through psycopg (extra `postgres`); a lost connection is opened again."""

    _NOW = "extract(epoch FROM clock_timestamp())::float8"

    def __init__(self, url: str) -> None:
        """Prepare; the first statement connects.

        Raises:
            MissingExtraError: psycopg is not installed.
        """
        self._url = url
        self._psycopg: Any = _load_psycopg()
        self._lock = threading.Lock()
        self._connection: Any = None

    def run(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """See `Database`."""
        text = statement.replace("{now}", self._NOW).replace("?", "%s")
        # PostgreSQL has no NUL in texts: a key or id with one is unknown to it in any case.
        sent = [v.replace("\0", "\ufffd") if isinstance(v, str) else v for v in values]
        with self._lock:
            try:
                cursor = self._connected().execute(text, sent)
                return cursor.fetchall() if cursor.description else []
            except self._psycopg.errors.UniqueViolation as error:
                raise TakenError(str(error)) from error
            except self._psycopg.Error as error:
                self._drop()
                raise DatabaseError(f"PostgreSQL: {error}") from error

    def set_up(self, statements: Sequence[str]) -> None:
        """See `Database`."""
        with self._lock:
            try:
                connection = self._connected()
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SETUP_LOCK,))
                    for statement in statements:
                        connection.execute(statement)
            except self._psycopg.Error as error:
                self._drop()
                raise DatabaseError(f"PostgreSQL: {error}") from error

    def close(self) -> None:
        """See `Database`."""
        with self._lock:
            self._drop()

    def _connected(self) -> Any:
        if self._connection is None:
            self._connection = self._psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=_TIMEOUT_S,
                options=f"-c statement_timeout={1000 * _TIMEOUT_S}",
                keepalives_idle=_TIMEOUT_S,
                keepalives_interval=_TIMEOUT_S,
                keepalives_count=2,
                tcp_user_timeout=2000 * _TIMEOUT_S,
            )
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _load_psycopg() -> ModuleType:
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError(
            f"SEMSR_SCAN_DATABASE needs the package psycopg ({error}); {install_hint('postgres')}"
        ) from error
    return psycopg
