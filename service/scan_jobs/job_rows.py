"""The table of scans, and its rows as jobs."""

import json

from service.scan_jobs.database import Row
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
    # Two scans into one sink would undo each other's work.
    "CREATE UNIQUE INDEX IF NOT EXISTS one_active_scan_a_sink ON scans (sink) "
    "WHERE state IN ('queued', 'running', 'paused')",
    "CREATE INDEX IF NOT EXISTS scans_by_time ON scans (created_s)",
)
COLUMNS = (
    "id, version, name, client, body, source, sink, state, wanted, detail, finish_by_s, "
    "retry_at_s, created_s, started_s, ended_s, progress, "
    "CASE WHEN state = 'running' AND lease_until_s < {now} THEN 1 ELSE 0 END"
)


def read_row(row: Row) -> Job:
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
        progress=Progress.from_json(json.loads(progress)),
        is_left=bool(is_left),
    )
