"""The scans of this process: takes one at a time from the list, runs it, and obeys its clients.

    claim ──> JobRun ──every second: heartbeat (lease, progress; what is wanted?)──> release

One scan at a time in a process: scans that run together would end together, later than the first
one needs to. Which one: the one that is wanted first.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from service.errors import NotReady
from service.lifecycle import Lifecycle
from service.lifecycle import State as ServiceState
from service.metrics import Metrics
from service.pause_windows import PauseWindows
from service.scan_jobs import forecast
from service.scan_jobs.body import ScanBody, checked_request
from service.scan_jobs.database import Database, DatabaseError, PostgresDatabase, SqliteDatabase
from service.scan_jobs.job import ACTIVE, Job, Progress, State
from service.scan_jobs.job_store import JobStore
from service.scan_jobs.roots import Roots
from service.scan_jobs.run import Ended, JobRun, Stop, remove_folder
from service.scans.rows import Counts
from service.settings import Settings

log = structlog.get_logger()

Result = TypeVar("Result")

LEASE_S = 10.0
_BEAT_S = 1.0
_IDLE_S = 2.0
# A lease that was not renewed for so much of it is given up before others may take it.
_GIVE_UP_SHARE = 0.7
_MEASURE_S = 5.0
_FORGET_EVERY_S = 3600.0
_MOST_MEASURED = 1000
# What is left of the time to stop in for the rest of the process.
_MARGIN_S = 2.0
_DAY_S = 86_400.0


class ScanJobs:
    """Scans as jobs; create and use it on the event loop.

    Attributes:
        windows: Times at which scans pause.
    """

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        *,
        clock: Callable[[], float] = time.time,
        lease_s: float = LEASE_S,
    ) -> None:
        """Prepare; `start` begins to work.

        Args:
            settings: The service's, with `scan_roots`.
            lifecycle: Knows the models and when the service is to end.
            clock: Seconds since 1970.
            lease_s: After so many seconds without a sign of its owner a scan is anybody's.

        Raises:
            service.scans.errors.MissingExtraError: The database needs a package.
        """
        folder = settings.scan_state
        assert folder is not None  # noqa: S101 (the settings see to it)
        self._settings = settings
        self._lifecycle = lifecycle
        self._clock = clock
        self._lease_s = lease_s
        self._folder = folder
        self._roots = Roots(settings.scan_roots or (), closed=folder)
        self._store = JobStore(_database(settings, folder))
        self._metrics: Metrics = lifecycle.metrics
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._run_task: asyncio.Task[Ended] | None = None
        self.windows = PauseWindows(settings.scan_pause)
        # From the beginning, so that the first one of a kind is an increase.
        for state in State:
            self._metrics.scans.labels(state)
        for state in State:
            if state not in ACTIVE:
                self._metrics.scans_ended.labels(state)
        for outcome in ("done", "failed"):
            self._metrics.scan_tiles.labels(outcome)
        for status in ("done", "failed", "pending"):
            self._metrics.scan_running_tiles.labels(status)

    async def start(self) -> None:
        """Begin to look for work."""
        loop = asyncio.get_running_loop()
        for work in (self._work(), self._measure_all(), self._notice_drain()):
            self._tasks.append(loop.create_task(work))

    async def stop(self, within_s: float) -> None:
        """Begin no more tiles, finish those under way, and leave the scan to who comes next.

        Args:
            within_s: After that what is under way is dropped; it is computed again later.
        """
        self._begin_stop()
        worker, *others = self._tasks
        for task in others:
            task.cancel()
        if self._lifecycle.has_failed:
            within_s = 0.0  # its tiles would never come back
        _, late = await asyncio.wait({worker}, timeout=max(0.0, within_s - _MARGIN_S))
        if late and self._run_task is not None:
            log.warning("scan_dropped", reason="its tiles were not done in time")
            self._run_task.cancel()
            await asyncio.wait({worker}, timeout=_MARGIN_S)
        worker.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._store.close()

    # --- what clients ask ---

    async def submit(
        self, body: ScanBody, *, client: str, idempotency_key: str | None
    ) -> tuple[Job, bool]:
        """Take a scan; returns it, and whether it is new.

        Raises:
            ServiceError: It cannot be run, or not now.
        """
        request = await asyncio.to_thread(checked_request, body, self._roots)
        finish_by_s = None if body.finish_by is None else body.finish_by.timestamp()
        job, is_new = await self._ask(
            lambda: self._store.add(
                secrets.token_hex(8),
                name=body.name,
                client=client,
                body=body.model_dump(mode="json"),
                source=request.source,
                sink=request.sink,
                finish_by_s=finish_by_s,
                idempotency_key=idempotency_key,
            )
        )
        if is_new:
            log.info("scan_queued", scan=job.id, client=client, source=job.source, sink=job.sink)
        self._wake.set()
        return job, is_new

    async def get(self, job_id: str) -> Job:
        """Return a scan.

        Raises:
            UnknownScan: There is none of that id.
        """
        return await self._ask(lambda: self._store.get(job_id))

    async def listing(
        self, *, limit: int, states: Sequence[State], before: str | None
    ) -> list[Job]:
        """List scans; see `JobStore.listing`."""
        return await self._ask(
            lambda: self._store.listing(limit=limit, states=states, before=before)
        )

    async def pause(self, job_id: str) -> Job:
        """See `JobStore.pause`."""
        job = await self._ask(lambda: self._store.pause(job_id))
        self._wake.set()
        return job

    async def resume(self, job_id: str) -> Job:
        """See `JobStore.resume`."""
        job = await self._ask(lambda: self._store.resume(job_id))
        self._wake.set()
        return job

    async def cancel(self, job_id: str) -> Job:
        """See `JobStore.cancel`."""
        job = await self._ask(lambda: self._store.cancel(job_id))
        if job.state is State.CANCELLED:
            await remove_folder(self._folder_of(job_id))
        self._wake.set()
        return job

    async def forget(self, job_id: str) -> bool:
        """Remove a scan that has ended, with its journal; False if it has not ended."""
        is_gone = await self._ask(lambda: self._store.forget(job_id))
        if is_gone:
            await remove_folder(self._folder_of(job_id))
        return is_gone

    # --- this process's own scan ---

    async def _work(self) -> None:
        await self._lifecycle.wait_loaded()
        while not self._is_stopping:
            try:
                job = await self._claim()
                if job is not None:
                    await self._run_job(job)
                    continue
            except DatabaseError as error:
                log.warning("scans_unavailable", error=str(error))
            except Exception:
                # A fault here must not end the scans of the night; the next try may fare better.
                log.exception("scan_jobs_failed")
            await self._sleep(_IDLE_S)

    async def _claim(self) -> Job | None:
        if self._lifecycle.state is not ServiceState.READY or self._in_window():
            return None
        return await asyncio.to_thread(self._store.claim, self._owner, lease_s=self._lease_s)

    async def _run_job(self, job: Job) -> None:
        log.info("scan_started", scan=job.id, source=job.source, sink=job.sink)
        folder = self._folder_of(job.id)
        run = JobRun(
            job,
            folder=folder,
            roots=self._roots,
            lifecycle=self._lifecycle,
            settings=self._settings,
        )
        task = asyncio.get_running_loop().create_task(run.run())
        task.add_done_callback(lambda _: self._wake.set())
        self._run_task = task
        try:
            await self._watch(job, run, task)
            ended = await self._outcome(run, task)
        except Exception:
            # Nobody would renew its lease: it must not go on.
            run.stop(Stop.LOST)
            await asyncio.wait({task})
            raise
        finally:
            self._run_task = None
            self._count_running(Progress())
        await self._release(job, ended)

    async def _watch(self, job: Job, run: JobRun, task: asyncio.Task[Ended]) -> None:
        """Renew the lease and pass on what is wanted, until the run has ended."""
        beaten_s = time.monotonic()
        counted: Counts | None = None
        while not task.done():
            if self._is_stopping:
                run.stop(Stop.DRAIN)
            elif self._in_window():
                run.stop(Stop.WINDOW)
            progress = await run.progress()
            counted = self._count_tiles(run, counted)
            self._count_running(progress)
            try:
                now = await asyncio.to_thread(
                    self._store.beat, job.id, self._owner, progress, lease_s=self._lease_s
                )
            except DatabaseError as error:
                log.warning("scan_beat_failed", scan=job.id, error=str(error))
                if time.monotonic() - beaten_s > _GIVE_UP_SHARE * self._lease_s:
                    run.stop(Stop.LOST)
            else:
                beaten_s = time.monotonic()
                if now is None:
                    run.stop(Stop.LOST)
                elif now.wanted is not None:
                    run.stop(Stop.PAUSE if now.wanted == "pause" else Stop.CANCEL)
            if not task.done():
                await self._sleep(_BEAT_S)
        self._count_tiles(run, counted)

    async def _outcome(self, run: JobRun, task: asyncio.Task[Ended]) -> Ended:
        try:
            return await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            return Ended(State.QUEUED, "", await run.progress())
        except Exception:
            log.exception("scan_run_failed")
            detail = "a fault of the service; its log says which"
            return Ended(State.FAILED, detail, await run.progress())

    async def _release(self, job: Job, ended: Ended) -> None:
        is_ours = await asyncio.to_thread(
            self._store.release,
            job.id,
            self._owner,
            ended.state,
            ended.progress,
            detail=ended.detail,
            retry_in_s=ended.retry_in_s,
        )
        log.info("scan_left", scan=job.id, state=ended.state, detail=ended.detail, ours=is_ours)
        if not is_ours:
            return
        if ended.state not in ACTIVE:
            self._metrics.scans_ended.labels(ended.state).inc()
        if ended.state in {State.DONE, State.CANCELLED}:
            await remove_folder(self._folder_of(job.id))

    def _count_tiles(self, run: JobRun, counted: Counts | None) -> Counts | None:
        """Count the tiles that have ended since the last time."""
        now, before = run.counts, counted or run.counts_before
        if now is not None and before is not None:
            self._metrics.scan_tiles.labels("done").inc(now.done - before.done)
            self._metrics.scan_tiles.labels("failed").inc(now.failed - before.failed)
        return now

    def _count_running(self, progress: Progress) -> None:
        counts = progress.counts
        for status in ("done", "failed", "pending"):
            number = 0 if counts is None else getattr(counts, status)
            self._metrics.scan_running_tiles.labels(status).set(number)

    # --- times ---

    def _in_window(self) -> bool:
        return self.windows.end_s(self._clock()) is not None

    async def _sleep(self, seconds: float) -> None:
        """Wait, or less if there may be something to do."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _notice_drain(self) -> None:
        await self._lifecycle.draining.wait()
        self._begin_stop()

    def _begin_stop(self) -> None:
        self._is_stopping = True
        self._wake.set()

    async def _measure_all(self) -> None:
        """Keep the figures of all scans up to date, and forget old ones."""
        forget_s = 0.0
        while True:
            try:
                await self._measure()
                if time.monotonic() >= forget_s:
                    forget_s = time.monotonic() + _FORGET_EVERY_S
                    keep_s = self._settings.scan_keep_days * _DAY_S
                    for job_id in await asyncio.to_thread(self._store.forget_old, keep_s):
                        await remove_folder(self._folder_of(job_id))
            except DatabaseError as error:
                log.warning("scans_unavailable", error=str(error))
            except Exception:
                log.exception("scan_jobs_failed")
            await asyncio.sleep(_MEASURE_S)

    async def _measure(self) -> None:
        counts = await asyncio.to_thread(self._store.counts)
        for state in State:
            self._metrics.scans.labels(state).set(counts.get(state, 0))
        active = await asyncio.to_thread(
            self._store.listing, limit=_MOST_MEASURED, states=sorted(ACTIVE)
        )
        now_s = self._clock()
        late = [forecast.late_s(job, self.windows, now_s) or 0.0 for job in active]
        ends = [forecast.eta_s(job, self.windows, now_s) or now_s for job in active]
        self._metrics.scan_late.set(max(late, default=0.0))
        self._metrics.scan_remaining.set(max(ends, default=now_s) - now_s)

    def _folder_of(self, job_id: str) -> Path:
        return self._folder / "scans" / job_id

    async def _ask(self, question: Callable[[], Result]) -> Result:
        """Ask the list of scans something for a client.

        Raises:
            NotReady: The database does not answer.
            ServiceError: What the list says.
        """
        try:
            return await asyncio.to_thread(question)
        except DatabaseError as error:
            log.warning("scans_unavailable", error=str(error))
            raise NotReady(
                "the list of scans cannot be reached now; the log says why", retry_after_s=5.0
            ) from error


def _database(settings: Settings, folder: Path) -> Database:
    if settings.scan_database is not None:
        return PostgresDatabase(settings.scan_database.get_secret_value())
    return SqliteDatabase(folder / "scans.sqlite")
