"""The list of scans: changes by clients, and the leases by which processes share the scans.

Every change is one statement that names the states in which it is allowed, so that two processes
never both own a scan. A process renews the lease of its scan with every heartbeat. If the process
dies, the lease expires, and another process puts the scan back into the queue.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from service.ground.errors import ScanConflict, UnknownScan, UnsuitableScan
from service.scan_jobs.database import Database, TakenError
from service.scan_jobs.job import ACTIVE, RESUMABLE, Ended, Job, Progress, State, setback_pause_s
from service.scan_jobs.table import COLUMNS, ScanTable

_ENDED = "state NOT IN ('queued', 'running', 'paused')"
_FREE = "state = 'queued' AND (retry_at_s IS NULL OR retry_at_s <= {now})"
_LEFT = "state = 'running' AND lease_until_s < {now}"
# The last request of a client decides, and not the one that the owner has heard of: a pause, a
# resume or a cancel may have come since.
_WANTED_STATE = (
    "CASE wanted WHEN 'pause' THEN 'paused' WHEN 'cancel' THEN 'cancelled' ELSE 'queued' END"
)
_WANTED_END = "CASE wanted WHEN 'cancel' THEN {now} END"
_NO_PROGRESS = Progress().to_text()


class JobStore:
    """The list of scans in a database; safe for threads, shared with other processes."""

    def __init__(self, database: Database) -> None:
        self._table = ScanTable(database)

    def close(self) -> None:
        """Disconnect."""
        self._table.close()

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
        """Add a scan, or find the one that was added with the same key.

        Args:
            job_id: Its new id.
            name: See `Job`.
            client: See `Job`.
            body: See `Job`.
            source: See `Job`.
            sink: See `Job`.
            finish_by_s: See `Job`.
            idempotency_key: Unique key of the request, or None.

        Returns:
            The scan, and whether it is new.

        Raises:
            UnsuitableScan: The key was used with another body.
            ScanConflict: Another active scan writes into the same sink.
            DatabaseError: See `Database.run`.
        """
        text = json.dumps(body, sort_keys=True)
        added = self._table.jobs(
            "INSERT INTO scans (id, name, client, body, source, sink, state, finish_by_s, "
            "created_s, progress, idempotency_key) "
            "VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, {now}, ?, ?) "
            f"ON CONFLICT DO NOTHING RETURNING {COLUMNS}",
            (job_id, name, client, text, source, sink, finish_by_s, _NO_PROGRESS, idempotency_key),
        )
        if added:
            return added[0], True
        known = self._table.find("idempotency_key = ?", (idempotency_key,))
        if not known:
            raise self._sink_conflict(sink)
        [job] = known
        if json.dumps(job.body, sort_keys=True) != text:
            raise UnsuitableScan(
                f"the Idempotency-Key was used with another body, for the scan {job.id}; send each "
                "scan with a key of its own"
            )
        return job, False

    def get(self, job_id: str) -> Job:
        """Return a scan.

        Raises:
            UnknownScan: No scan has this id.
            DatabaseError: See `Database.run`.
        """
        found = self._table.find("id = ?", (job_id,))
        if not found:
            raise UnknownScan(f"there is no scan {job_id!r}; GET /scans lists them")
        return found[0]

    def listing(
        self,
        *,
        limit: int,
        states: Sequence[State] = (),
        before: str | None = None,
        ended_after_s: float | None = None,
    ) -> list[Job]:
        """List scans, the newest first.

        Args:
            limit: Maximum number of scans.
            states: States to list; empty lists all.
            before: Id of a scan; only older ones are listed.
            ended_after_s: Seconds since 1970; only scans that ended then or later are listed.
        """
        conditions, values = ["1 = 1"], list[object]()
        if states:
            conditions.append(f"state IN ({', '.join('?' for _ in states)})")
            values += [str(state) for state in states]
        if ended_after_s is not None:
            conditions.append("ended_s >= ?")
            values.append(ended_after_s)
        if before is not None:
            job = self.get(before)
            conditions.append("(created_s < ? OR (created_s = ? AND id < ?))")
            values += [job.created_s, job.created_s, job.id]
        return self._table.find(
            " AND ".join(conditions),
            (*values, limit),
            order="ORDER BY created_s DESC, id DESC LIMIT ?",
        )

    def counts(self) -> dict[State, int]:
        """Count the scans by state."""
        rows = self._table.run("SELECT state, count(*) FROM scans GROUP BY state")
        return {State(state): int(count) for state, count in rows}

    def pause(self, job_id: str) -> Job:
        """Pause a scan; a running one is paused by its owner.

        Raises:
            ScanConflict: It has ended.
            UnknownScan: No scan has this id.
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
        """Resume a paused scan, or retry the failed and missing tiles of an ended one.

        Raises:
            ScanConflict: The scan cannot be resumed, or another active scan uses its sink.
            UnknownScan: No scan has this id.
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
        """Stop a scan for good; a running one is stopped by its owner.

        Raises:
            ScanConflict: It has ended.
            UnknownScan: No scan has this id.
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
        """Remove a scan that has ended from the list; False if it has not ended."""
        return bool(
            self._table.run(f"DELETE FROM scans WHERE id = ? AND {_ENDED} RETURNING id", (job_id,))
        )

    def forget_old(self, keep_s: float) -> list[str]:
        """Remove scans that ended more than `keep_s` seconds ago; returns their ids."""
        rows = self._table.run(
            f"DELETE FROM scans WHERE {_ENDED} AND ended_s < " + "{now} - ? RETURNING id",
            (keep_s,),
        )
        return [row[0] for row in rows]

    # --- what processes do ---

    def settle_left_behind(self, *, but: str = "") -> list[tuple[str, State]]:
        """Put scans with an expired lease into the queue, or into the state that clients requested.

        Args:
            but: Id of this process's own scan, which is left out.

        Returns:
            Ids and new states of these scans.
        """
        settled: list[tuple[str, State]] = []
        for left in self._table.find(f"{_LEFT} AND id <> ?", (but,)):
            deaths = left.progress.setbacks + 1
            changed = self._table.update(
                f"state = {_WANTED_STATE}, ended_s = {_WANTED_END}, wanted = NULL, owner = NULL, "
                "lease_until_s = NULL, progress = ?, detail = ?, retry_at_s = {now} + ?",
                f"id = ? AND {_LEFT}",
                (
                    replace(left.progress, setbacks=deaths).to_text(),
                    f"{deaths} runs in a row made no progress; in the last one its process died",
                    # A scan that kills its process must not do so all night: online clients need
                    # the process too.
                    setback_pause_s(deaths - 1),
                    left.id,
                ),
            )
            settled += [(job.id, job.state) for job in changed]
        return settled

    def claim(self, owner: str, *, lease_s: float) -> Job | None:
        """Take the most urgent queued scan, or None if there is none.

        Args:
            owner: Name of this process, unique among all.
            lease_s: Seconds without a heartbeat after which the scan counts as left behind.
        """
        claimed = self._table.update(
            "state = 'running', owner = ?, lease_until_s = {now} + ?, "
            "started_s = coalesce(started_s, {now}), retry_at_s = NULL, detail = ''",
            f"id = (SELECT id FROM scans WHERE {_FREE} "
            "ORDER BY CASE WHEN finish_by_s IS NULL THEN 1 ELSE 0 END, finish_by_s, created_s, id "
            f"LIMIT 1) AND {_FREE}",
            (owner, lease_s),
        )
        return claimed[0] if claimed else None

    def beat(self, job_id: str, owner: str, progress: Progress, *, lease_s: float) -> Job | None:
        """Renew the lease of a scan and store its progress.

        Returns:
            The scan with the last request of a client; None if another process owns it now.
        """
        text = progress.to_text()
        held = self._table.jobs(
            "UPDATE scans SET lease_until_s = {now} + ?, progress = ?, "
            "version = version + CASE WHEN progress = ? THEN 0 ELSE 1 END "
            f"WHERE id = ? AND owner = ? AND state = 'running' RETURNING {COLUMNS}",
            (lease_s, text, text, job_id, owner),
        )
        return held[0] if held else None

    def release(self, job_id: str, owner: str, ended: Ended) -> State | None:
        """Release a scan after a run; an active scan gets the state that its client last requested.

        Args:
            job_id: Id of the scan.
            owner: Name of this process.
            ended: End of the run.

        Returns:
            Its new state; None if another process owns it now.
        """
        text, is_open = ended.progress.to_text(), ended.state in ACTIVE
        state = () if is_open else (str(ended.state),)
        released = self._table.update(
            f"state = {_WANTED_STATE if is_open else '?'}, detail = ?, progress = ?, "
            "wanted = NULL, owner = NULL, lease_until_s = NULL, retry_at_s = {now} + ?, "
            f"ended_s = {_WANTED_END if is_open else '{now}'}",
            "id = ? AND owner = ? AND state = 'running'",
            (*state, ended.detail, text, ended.retry_in_s, job_id, owner),
        )
        return released[0].state if released else None

    def _change(self, job_id: str, changes: str, allowed: frozenset[State], verb: str) -> Job:
        states = ", ".join(f"'{state}'" for state in sorted(allowed))
        try:
            changed = self._table.update(changes, f"id = ? AND state IN ({states})", (job_id,))
        except TakenError as error:
            raise self._sink_conflict(self.get(job_id).sink) from error
        if changed:
            return changed[0]
        job = self.get(job_id)
        raise ScanConflict(f"the scan {job_id} is {job.state}; it cannot {verb} any more")

    def _sink_conflict(self, sink: str) -> ScanConflict:
        others = self._table.find(f"sink = ? AND NOT ({_ENDED})", (sink,))
        other = others[0].id if others else "another"
        return ScanConflict(f"the scan {other} writes into the same sink; one at a time may")
