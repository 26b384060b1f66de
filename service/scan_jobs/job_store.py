"""The list of scans: what clients ask of it, and how processes share its scans among themselves.

Every change is one statement, which says in which states it is allowed: two processes never both
believe that a scan is theirs. A process that has a scan renews its lease with every heartbeat; when
it dies the lease runs out, and another one puts the scan back.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from service.ground.errors import ScanConflict, UnknownScan, UnsuitableScan
from service.scan_jobs.database import Database, Row, TakenError, UnusableDatabaseError
from service.scan_jobs.job import ACTIVE, RESUMABLE, Job, Progress, State, setback_pause_s
from service.scan_jobs.job_rows import COLUMNS, FORMAT_VERSION, SCHEMA, read_row

_ENDED = "state NOT IN ('queued', 'running', 'paused')"
_FREE = "state = 'queued' AND (retry_at_s IS NULL OR retry_at_s <= {now})"
_LEFT = "state = 'running' AND lease_until_s < {now}"
# What was wanted last counts, and not what its owner has heard of: since then somebody may have
# wanted a pause, no pause any more, or the end.
_WANTED_STATE = (
    "CASE wanted WHEN 'pause' THEN 'paused' WHEN 'cancel' THEN 'cancelled' ELSE 'queued' END"
)
_WANTED_END = "CASE wanted WHEN 'cancel' THEN {now} END"
_NO_PROGRESS = json.dumps(Progress().to_json())


class JobStore:
    """The list of scans in a database; safe for threads, shared with other processes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_set_up = False

    def close(self) -> None:
        """Leave the database."""
        self._database.close()

    # --- what clients ask ---

    def add(
        self,
        job_id: str,
        *,
        name: str,
        client: str,
        body: dict[str, Any],
        source: str,
        sink: str,
        finish_by_s: float | None,
        idempotency_key: str | None,
    ) -> tuple[Job, bool]:
        """Add a scan, or find the one that was added by the same key.

        Args:
            job_id: Its name in addresses, used by none yet.
            name: See `Job`, as the others.
            client: See `Job`.
            body: See `Job`.
            source: See `Job`.
            sink: See `Job`.
            finish_by_s: See `Job`.
            idempotency_key: Unique for what was asked for, or None.

        Returns:
            The scan, and whether it is new.

        Raises:
            UnsuitableScan: The key was used with another body.
            ScanConflict: Another active scan writes into the same sink.
            DatabaseError: See `Database.run`.
        """
        text = json.dumps(body, sort_keys=True)
        added = self._run(
            "INSERT INTO scans (id, name, client, body, source, sink, state, finish_by_s, "
            "created_s, progress, idempotency_key) "
            "VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, {now}, ?, ?) "
            f"ON CONFLICT DO NOTHING RETURNING {COLUMNS}",
            (job_id, name, client, text, source, sink, finish_by_s, _NO_PROGRESS, idempotency_key),
        )
        if added:
            return read_row(added[0]), True
        known = self._run(
            f"SELECT {COLUMNS} FROM scans WHERE idempotency_key = ?",
            (idempotency_key,),
        )
        if not known:
            raise self._sink_conflict(sink)
        job = read_row(known[0])
        if json.dumps(job.body, sort_keys=True) != text:
            raise UnsuitableScan(
                f"the Idempotency-Key was used with another body, for the scan {job.id}; send each "
                "scan with a key of its own"
            )
        return job, False

    def get(self, job_id: str) -> Job:
        """Return a scan.

        Raises:
            UnknownScan: There is none of that id.
            DatabaseError: See `Database.run`.
        """
        rows = self._run(
            f"SELECT {COLUMNS} FROM scans WHERE id = ?",
            (job_id,),
        )
        if not rows:
            raise UnknownScan(f"there is no scan {job_id!r}; GET /scans lists them")
        return read_row(rows[0])

    def listing(
        self, *, limit: int, states: Sequence[State] = (), before: str | None = None
    ) -> list[Job]:
        """List scans, the newest first.

        Args:
            limit: Most that are given.
            states: Only those in one of these; all where empty.
            before: Only those that are older than the scan of this id.
        """
        conditions, values = ["1 = 1"], list[object]()
        if states:
            conditions.append(f"state IN ({', '.join('?' for _ in states)})")
            values += [str(state) for state in states]
        if before is not None:
            job = self.get(before)
            conditions.append("(created_s < ? OR (created_s = ? AND id < ?))")
            values += [job.created_s, job.created_s, job.id]
        where = " AND ".join(conditions)
        rows = self._run(
            f"SELECT {COLUMNS} FROM scans WHERE {where} ORDER BY created_s DESC, id DESC LIMIT ?",
            (*values, limit),
        )
        return [read_row(row) for row in rows]

    def counts(self) -> dict[State, int]:
        """Count the scans by state."""
        rows = self._run("SELECT state, count(*) FROM scans GROUP BY state")
        return {State(state): int(count) for state, count in rows}

    def pause(self, job_id: str) -> Job:
        """Pause a scan; its owner is told.

        Raises:
            ScanConflict: It has ended.
            UnknownScan: There is none of that id.
        """
        return self._change(
            job_id,
            "wanted = CASE WHEN state <> 'running' THEN NULL WHEN wanted = 'cancel' THEN wanted "
            "ELSE 'pause' END, "
            "state = CASE WHEN state = 'running' THEN state ELSE 'paused' END, detail = ''",
            ACTIVE,
            "pause",
        )

    def resume(self, job_id: str) -> Job:
        """Let a scan go on that is paused, or try what failed or is missing again.

        Raises:
            ScanConflict: It cannot be resumed, or another scan has its sink now.
            UnknownScan: There is none of that id.
        """
        return self._change(
            job_id,
            "wanted = CASE WHEN wanted = 'cancel' THEN wanted END, "
            "state = CASE WHEN state = 'running' THEN state ELSE 'queued' END, "
            "detail = '', retry_at_s = NULL, ended_s = NULL",
            RESUMABLE | {State.QUEUED, State.RUNNING},
            "resume",
        )

    def cancel(self, job_id: str) -> Job:
        """Stop a scan for good; its owner is told.

        Raises:
            ScanConflict: It has ended.
            UnknownScan: There is none of that id.
        """
        return self._change(
            job_id,
            "wanted = CASE WHEN state = 'running' THEN 'cancel' END, "
            "ended_s = CASE WHEN state = 'running' THEN ended_s ELSE {now} END, "
            "state = CASE WHEN state = 'running' THEN state ELSE 'cancelled' END, detail = ''",
            ACTIVE,
            "cancel",
        )

    def forget(self, job_id: str) -> bool:
        """Remove a scan that has ended from the list; False if it has not."""
        return bool(
            self._run(f"DELETE FROM scans WHERE id = ? AND {_ENDED} RETURNING id", (job_id,))
        )

    def forget_old(self, keep_s: float) -> list[str]:
        """Remove scans that ended long ago.

        Args:
            keep_s: For how many seconds an ended one is kept.

        Returns:
            Their ids.
        """
        rows = self._run(
            f"DELETE FROM scans WHERE {_ENDED} AND ended_s < " + "{now} - ? RETURNING id",
            (keep_s,),
        )
        return [row[0] for row in rows]

    # --- what processes do ---

    def settle_left_behind(self, *, but: str = "") -> list[tuple[str, State]]:
        """Put scans back whose process has died: into the queue, or where they were wanted.

        Args:
            but: Id of the scan that this process runs, however late its heartbeat is.

        Returns:
            Their ids, and where they are now.
        """
        settled: list[tuple[str, State]] = []
        left = self._run(f"SELECT id, progress FROM scans WHERE {_LEFT} AND id <> ?", (but,))
        for job_id, text in left:
            progress = Progress.from_json(json.loads(text))
            deaths = progress.setbacks + 1
            rows = self._run(
                f"UPDATE scans SET state = {_WANTED_STATE}, ended_s = {_WANTED_END}, "
                "wanted = NULL, owner = NULL, lease_until_s = NULL, progress = ?, detail = ?, "
                "retry_at_s = {now} + ?, version = version + 1 "
                f"WHERE id = ? AND {_LEFT} RETURNING state",
                (
                    json.dumps(replace(progress, setbacks=deaths).to_json()),
                    f"{deaths} runs in a row got nowhere, the last one since its process has died",
                    # A scan that ends its process must not do so all night: the line is there too.
                    setback_pause_s(deaths - 1),
                    job_id,
                ),
            )
            settled += [(job_id, State(state)) for (state,) in rows]
        return settled

    def claim(self, owner: str, *, lease_s: float) -> Job | None:
        """Take the scan that is wanted first, if there is one to be had.

        Args:
            owner: Name of this process, used by no other.
            lease_s: After so many seconds without a heartbeat it counts as left behind.
        """
        rows = self._run(
            "UPDATE scans SET state = 'running', owner = ?, lease_until_s = {now} + ?, "
            "started_s = coalesce(started_s, {now}), retry_at_s = NULL, detail = '', "
            "version = version + 1 "
            f"WHERE id = (SELECT id FROM scans WHERE {_FREE} "
            "ORDER BY CASE WHEN finish_by_s IS NULL THEN 1 ELSE 0 END, finish_by_s, created_s, id "
            f"LIMIT 1) AND {_FREE} RETURNING {COLUMNS}",
            (owner, lease_s),
        )
        return read_row(rows[0]) if rows else None

    def beat(self, job_id: str, owner: str, progress: Progress, *, lease_s: float) -> Job | None:
        """Renew a lease and say how far the scan is.

        Returns:
            The scan with what is wanted of it; None if it is another process's by now.
        """
        text = json.dumps(progress.to_json())
        rows = self._run(
            "UPDATE scans SET lease_until_s = {now} + ?, progress = ?, "
            "version = version + CASE WHEN progress = ? THEN 0 ELSE 1 END "
            f"WHERE id = ? AND owner = ? AND state = 'running' RETURNING {COLUMNS}",
            (lease_s, text, text, job_id, owner),
        )
        return read_row(rows[0]) if rows else None

    def release(
        self,
        job_id: str,
        owner: str,
        state: State,
        progress: Progress,
        *,
        detail: str = "",
        retry_in_s: float | None = None,
    ) -> State | None:
        """Leave a scan in a state; one that has not ended goes where it is wanted by now.

        Args:
            job_id: Which.
            owner: Name of this process.
            state: Where it is then.
            progress: How far it is.
            detail: Why.
            retry_in_s: For a queued one: it is not tried again before.

        Returns:
            Where it is then; None if it is another process's by now.
        """
        text = json.dumps(progress.to_json())
        is_open = state in ACTIVE
        rows = self._run(
            f"UPDATE scans SET state = {_WANTED_STATE if is_open else '?'}, "
            "detail = ?, progress = ?, wanted = NULL, owner = NULL, lease_until_s = NULL, "
            "version = version + 1, retry_at_s = {now} + ?, "
            f"ended_s = {_WANTED_END if is_open else '{now}'} "
            "WHERE id = ? AND owner = ? AND state = 'running' RETURNING state",
            (*(() if is_open else (str(state),)), detail, text, retry_in_s, job_id, owner),
        )
        return State(rows[0][0]) if rows else None

    # --- the database ---

    def _change(self, job_id: str, assignments: str, allowed: frozenset[State], verb: str) -> Job:
        states = ", ".join(f"'{state}'" for state in sorted(allowed))
        try:
            rows = self._run(
                f"UPDATE scans SET {assignments}, version = version + 1 "
                f"WHERE id = ? AND state IN ({states}) RETURNING {COLUMNS}",
                (job_id,),
            )
        except TakenError as error:
            raise self._sink_conflict(self.get(job_id).sink) from error
        if rows:
            return read_row(rows[0])
        job = self.get(job_id)
        raise ScanConflict(f"the scan {job_id} is {job.state}; it cannot {verb} any more")

    def _sink_conflict(self, sink: str) -> ScanConflict:
        rows = self._run(
            f"SELECT id FROM scans WHERE sink = ? AND NOT ({_ENDED})",
            (sink,),
        )
        other = rows[0][0] if rows else "another"
        return ScanConflict(f"the scan {other} writes into the same sink; one at a time may")

    def _run(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        if not self._is_set_up:
            self._database.set_up(SCHEMA)
            [(version,)] = self._database.run("SELECT max(version) FROM scan_format")
            if version != FORMAT_VERSION:
                raise UnusableDatabaseError(
                    f"it has format {version}; expected {FORMAT_VERSION}", place="the list of scans"
                )
            self._is_set_up = True
        return self._database.run(statement, values)
