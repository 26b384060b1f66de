"""A PostgreSQL of its own for tests: a new cluster in a temporary folder, on a socket there."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

# Debian keeps the server's programs beside each version and not on PATH.
_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_USER = "tester"


class PostgresServer:
    """A running server; see `running_postgres`."""

    def __init__(self, socket_folder: Path) -> None:
        self._socket_folder = socket_folder

    def url(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql://{_USER}@/{database}?host={self._socket_folder}"

    def new_database(self) -> str:
        """Make an empty database; returns its address."""
        name = f"scans_{uuid.uuid4().hex}"
        self._run("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def end_connections(self, url: str) -> None:
        """Break every connection to a database, as a restart of the server does."""
        name = url.partition("@/")[2].partition("?")[0]
        self._run(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (name,),
        )

    def _run(self, database: str, statement: str, values: tuple[str, ...] = ()) -> None:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode(), values)


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Run a server until the block ends; the test skips with the reason where there is none.

    The server refuses to run as root: then it runs as the user postgres or nobody.
    """
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = next((folder for folder in _FOLDERS if (folder / "initdb").exists()), None)
    if programs is None and shutil.which("initdb") and shutil.which("postgres"):
        programs = Path(str(shutil.which("initdb"))).parent
    if programs is None:
        pytest.skip("postgresql is not installed")
    # Short: a socket's path has a limit. Not pytest's own folder: another user cannot enter that.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    user = _other_user() if os.getuid() == 0 else None
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    environment = {"PATH": os.defpath, "LC_ALL": "C", "HOME": str(folder)}
    data, log = folder / "data", folder / "log"

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, "-D", data, *arguments],
            check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL, timeout=120,
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
        )  # fmt: skip

    try:
        run("initdb", "-U", _USER, "-A", "trust", "-N", "-E", "UTF8")
        options = f"-c listen_addresses= -k {folder} -c fsync=off -c max_connections=50"
        run("pg_ctl", "-l", str(log), "-o", options, "-w", "start")
        try:
            yield PostgresServer(folder)
        finally:
            run("pg_ctl", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _other_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.skip("postgresql cannot be run as root, and there is no other user")
