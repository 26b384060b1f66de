"""The table of scans: makes it, runs statements on it, and reads its rows as jobs."""

import json
from collections.abc import Sequence

from service.scan_jobs.database import Database, Row, UnusableDatabaseError
from service.scan_jobs.job import Job, Progress, State

FORMAT_VERSION = 1

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS scan_format (version INTEGER NOT NULL PRIMARY KEY)",
    f"INSERT INTO scan_format (version) SELECT {FORMAT_VERSION} "
    "WHERE NOT EXISTS (SELECT 1 FROM scan_format)",
    """CREATE TABLE IF NOT EXISTS scans (
        id TEXT PRIMARY KEY,
        version BIGINT NOT NULL DEFAULT 1,
        name TEXT NOT NULL,
        client TEXT NOT NULL,
        body TEXT NOT NULL,
        source TEXT NOT NULL,
        sink TEXT NOT NULL,
        state TEXT NOT NULL,
        wanted TEXT,
        detail TEXT NOT NULL DEFAULT '',
        finish_by_s DOUBLE PRECISION,
        retry_at_s DOUBLE PRECISION,
        created_s DOUBLE PRECISION NOT NULL,
        started_s DOUBLE PRECISION,
        ended_s DOUBLE PRECISION,
        progress TEXT NOT NULL,
        idempotency_key TEXT UNIQUE,
        owner TEXT,
        lease_until_s DOUBLE PRECISION
    )""",
    # Two scans into one sink would overwrite each other's outputs.
    "CREATE UNIQUE INDEX IF NOT EXISTS one_active_scan_a_sink ON scans (sink) "
    "WHERE state IN ('queued', 'running', 'paused')",
    "CREATE INDEX IF NOT EXISTS scans_by_time ON scans (created_s)",
)
COLUMNS = (
    "id, version, name, client, body, source, sink, state, wanted, detail, finish_by_s, "
    "retry_at_s, created_s, started_s, ended_s, progress, "
    "CASE WHEN state = 'running' AND lease_until_s < {now} THEN 1 ELSE 0 END"
)


class ScanTable:
    """The table in a database, made when it is first used; safe for threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_set_up = False

    def run(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement; see `Database.run`.

        Raises:
            UnusableDatabaseError: The table has another format.
        """
        if not self._is_set_up:
            self._database.set_up(SCHEMA)
            [(version,)] = self._database.run("SELECT max(version) FROM scan_format")
            if version != FORMAT_VERSION:
                raise UnusableDatabaseError(
                    f"it has format {version}; expected {FORMAT_VERSION}", place="the list of scans"
                )
            self._is_set_up = True
        return self._database.run(statement, values)

    def jobs(self, statement: str, values: Sequence[object] = ()) -> list[Job]:
        """Run one statement that returns rows of `COLUMNS`."""
        return [_read_row(row) for row in self.run(statement, values)]

    def find(self, condition: str, values: Sequence[object], *, order: str = "") -> list[Job]:
        """Return the scans that meet a condition."""
        return self.jobs(f"SELECT {COLUMNS} FROM scans WHERE {condition} {order}", values)

    def update(self, changes: str, condition: str, values: Sequence[object]) -> list[Job]:
        """Change the scans that meet a condition.

        Args:
            changes: Assignments in SQL; the version is increased in any case.
            condition: Condition in SQL.
            values: Values of both, in order.

        Returns:
            The changed scans.
        """
        return self.jobs(
            f"UPDATE scans SET {changes}, version = version + 1 "
            f"WHERE {condition} RETURNING {COLUMNS}",
            values,
        )

    def close(self) -> None:
        """Disconnect."""
        self._database.close()


def _read_row(row: Row) -> Job:
    """Read a row of `COLUMNS`."""
    (
        job_id, version, name, client, body, source, sink, state, wanted, detail, finish_by_s,
        retry_at_s, created_s, started_s, ended_s, progress, is_left,
    ) = row  # fmt: skip
    return Job(
        id=job_id,
        version=version,
        name=name,
        client=client,
        body=json.loads(body),
        source=source,
        sink=sink,
        state=State(state),
        wanted=wanted,
        detail=detail,
        finish_by_s=finish_by_s,
        retry_at_s=retry_at_s,
        created_s=created_s,
        started_s=started_s,
        ended_s=ended_s,
        progress=Progress.from_text(progress),
        is_left=bool(is_left),
    )
