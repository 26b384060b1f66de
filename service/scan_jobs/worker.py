"""Claims a scan from the list for this process, watches its run, and releases it.

    claim ──> JobRun ──heartbeat every second──> release

A heartbeat renews the lease, reports the progress, and returns the requests of clients. If the
process dies, the lease expires, and another process puts the scan back into the queue.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import time
from pathlib import Path

import structlog

from service.ground.daemon_thread import in_daemon_thread
from service.ground.pause_windows import PauseWindows
from service.hosting.lifecycle import Lifecycle
from service.hosting.lifecycle import State as ServiceState
from service.scan_jobs.database import DatabaseError
from service.scan_jobs.job import ACTIVE, Ended, Job, State
from service.scan_jobs.progress import Figures
from service.scan_jobs.roots import Roots
from service.scan_jobs.run import JobRun, Stop
from service.scan_jobs.store import JobStore
from service.scans.rows import Counts
from service.settings import Settings

log = structlog.get_logger()

LEASE_S = 10.0
"""Seconds without a heartbeat after which any process may take a scan."""
_BEAT_S = 1.0
_IDLE_S = 2.0
_UNAVAILABLE_S = 10.0
# Share of the lease after which a run stops if it could not renew it, before others may take it.
_GIVE_UP_SHARE = 0.7
# Part of the time limit of a stop that is left to the rest of the process.
_MARGIN_S = 2.0


class Worker:
    """Runs one scan after the other; create and use it on the event loop."""

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        store: JobStore,
        *,
        folder: Path,
        roots: Roots,
        windows: PauseWindows,
        figures: Figures,
    ) -> None:
        """Prepare.

        Args:
            settings: The service's settings.
            lifecycle: The service's models.
            store: The list of scans.
            folder: Folder that holds one work folder for each scan.
            roots: Folders and prefixes that scans may use.
            windows: Times of day at which scans pause.
            figures: Metrics of tiles and ends.
        """
        self._settings = settings
        self._lifecycle = lifecycle
        self._store = store
        self._folder = folder
        self._roots = roots
        self._windows = windows
        self._figures = figures
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None
        self._run_task: asyncio.Task[Ended] | None = None
        self._running = ""

    def start(self) -> None:
        """Begin to look for work."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    def begin_stop(self) -> None:
        """Begin no more scans and no more tiles."""
        self._is_stopping = True
        self._wake.set()

    async def stop(self, within_s: float) -> None:
        """Finish the tiles in progress and leave the scan to another process.

        Args:
            within_s: Time limit; tiles that exceed it are dropped and computed again later.
        """
        self.begin_stop()
        if self._task is None:
            return
        if self._lifecycle.has_failed:
            within_s = 0.0  # its tiles would never come back
        _, late = await asyncio.wait({self._task}, timeout=max(0.0, within_s - _MARGIN_S))
        if late and self._run_task is not None:
            log.warning("scan_dropped", reason="its tiles were not done in time")
            self._run_task.cancel()
            await asyncio.wait({self._task}, timeout=_MARGIN_S)
        self._task.cancel()

    async def settle_left_behind(self) -> None:
        """Put back the scans of processes that have died.

        Raises:
            DatabaseError: The list cannot be reached.
        """
        left = await asyncio.to_thread(self._store.settle_left_behind, but=self._running)
        for job_id, state in left:
            log.warning("scan_left_behind", scan=job_id, state=state)
            if state is State.CANCELLED:
                self._figures.count_end(state)
                await remove_folder(self._folder / job_id)

    async def _work(self) -> None:
        await self._lifecycle.wait_loaded()
        while not self._is_stopping:
            try:
                job = await self._claim()
                if job is not None:
                    await self._run(job)
                    continue
            except DatabaseError as error:
                log.warning("scans_unavailable", error=str(error))
                await self._sleep(_UNAVAILABLE_S)
            except Exception:
                # A fault here must not end the scans of the night; a retry may succeed.
                log.exception("scan_jobs_failed")
            await self._sleep(_IDLE_S)

    async def _claim(self) -> Job | None:
        await self.settle_left_behind()
        if self._lifecycle.state is not ServiceState.READY or self._windows.is_pause_now():
            return None
        return await asyncio.to_thread(self._store.claim, self._owner, lease_s=LEASE_S)

    async def _run(self, job: Job) -> None:
        self._running = job.id
        log.info("scan_started", scan=job.id, source=job.source, sink=job.sink)
        run = JobRun(
            job,
            folder=self._folder / job.id,
            roots=self._roots,
            lifecycle=self._lifecycle,
            settings=self._settings,
        )
        task = asyncio.get_running_loop().create_task(run.run())
        task.add_done_callback(lambda _: self._wake.set())
        self._run_task = task
        try:
            await self._watch(job, run, task)
            await self._release(job, await self._outcome(run, task), run.model_version)
        except Exception:
            # Its lease would not be renewed: it must not go on.
            run.stop(Stop.LOST)
            await asyncio.wait({task})
            raise
        finally:
            self._run_task = None
            self._running = ""
            self._figures.show_running(None)

    async def _watch(self, job: Job, run: JobRun, task: asyncio.Task[Ended]) -> None:
        """Send heartbeats and pass the requests of clients to the run, until it has ended."""
        beaten_s = time.monotonic()
        counted: Counts | None = None
        while not task.done():
            if self._is_stopping:
                run.stop(Stop.DRAIN)
            elif self._windows.is_pause_now():
                run.stop(Stop.WINDOW)
            progress = await run.progress.now()
            counted = self._count(run, counted)
            self._figures.show_running(progress.counts)
            try:
                now = await asyncio.to_thread(
                    self._store.beat, job.id, self._owner, progress, lease_s=LEASE_S
                )
            except DatabaseError as error:
                log.warning("scan_beat_failed", scan=job.id, error=str(error))
                if time.monotonic() - beaten_s > _GIVE_UP_SHARE * LEASE_S:
                    run.stop(Stop.LOST)
            else:
                beaten_s = time.monotonic()
                if now is None:
                    run.stop(Stop.LOST)
                elif now.wanted is not None:
                    run.stop(Stop.PAUSE if now.wanted == "pause" else Stop.CANCEL)
            if not task.done():
                await self._sleep(_BEAT_S)
        self._count(run, counted)

    def _count(self, run: JobRun, counted: Counts | None) -> Counts | None:
        now, before = run.progress.counts, counted or run.progress.counts_before
        if now is not None and before is not None:
            self._figures.count_tiles(before, now)
        return now

    async def _outcome(self, run: JobRun, task: asyncio.Task[Ended]) -> Ended:
        try:
            return await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            return Ended(State.QUEUED, await run.progress.now())
        except Exception:
            log.exception("scan_run_failed")
            detail = "a fault of the service; its log says which"
            return Ended(State.FAILED, await run.progress.now(), detail)

    async def _release(self, job: Job, ended: Ended, model_version: str | None) -> None:
        state = await asyncio.to_thread(self._store.release, job.id, self._owner, ended)
        log.info(
            "scan_left",
            scan=job.id,
            state=state or ended.state,
            detail=ended.detail,
            model_version=model_version,
            ours=state is not None,
        )
        if state is None:
            return
        if state not in ACTIVE:
            self._figures.count_end(state)
        if state in {State.DONE, State.CANCELLED}:
            await remove_folder(self._folder / job.id)

    async def _sleep(self, seconds: float) -> None:
        """Wait; `wake` ends the wait early."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()


async def remove_folder(folder: Path) -> None:
    """Remove the journal of a scan that cannot be resumed any more."""
    await in_daemon_thread(lambda: shutil.rmtree(folder, ignore_errors=True))
