"""Scans as jobs: answers the requests of clients, and runs the worker of this process.

A process runs one scan at a time, the most urgent first. Scans that share the time would all end
late.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import structlog

from service.ground.errors import NoManifest, NotReady, UnsuitableScan
from service.ground.pause_windows import PauseWindows
from service.hosting.lifecycle import Lifecycle
from service.scan_jobs.database import (
    Database,
    DatabaseError,
    PostgresDatabase,
    SqliteDatabase,
    UnusableDatabaseError,
)
from service.scan_jobs.job import Job, State
from service.scan_jobs.progress import Figures
from service.scan_jobs.roots import Roots
from service.scan_jobs.schemas import ScanBody, checked_request
from service.scan_jobs.store import JobStore
from service.scan_jobs.worker import Worker, remove_folder
from service.scans.errors import ScanError
from service.settings import Settings

log = structlog.get_logger()

Result = TypeVar("Result")

_MEASURE_S = 5.0
_FORGET_EVERY_S = 3600.0
_DAY_S = 86_400.0
# Retry-After, in seconds, for a list of scans that only the operator can repair.
_REPAIR_S = 60.0


class ScanJobs:
    """Scans as jobs; create and use it on the event loop.

    Attributes:
        windows: Times of day at which scans pause.
    """

    def __init__(self, settings: Settings, lifecycle: Lifecycle) -> None:
        """Prepare; `start` begins to work.

        Args:
            settings: The service's settings, with `scan_roots`.
            lifecycle: The service's models, and the time of its end.

        Raises:
            service.scans.errors.MissingExtraError: The database needs a package.
        """
        state = settings.scan_state
        assert state is not None  # noqa: S101 (the settings see to it)
        self._keep_s = settings.scan_keep_days * _DAY_S
        self._answer_bits = settings.answer_bits
        self._lifecycle = lifecycle
        self._folder = state / "scans"
        self._roots = Roots(settings.scan_roots or (), closed=state)
        self._store = JobStore(_database(settings, state))
        self._tasks: list[asyncio.Task[None]] = []
        self.windows = PauseWindows(settings.scan_pause)
        self._figures = Figures(lifecycle.metrics, self._store, self.windows)
        self._worker = Worker(
            settings,
            lifecycle,
            self._store,
            folder=self._folder,
            roots=self._roots,
            windows=self.windows,
            figures=self._figures,
        )

    async def start(self) -> None:
        """Begin to look for work."""
        self._worker.start()
        for work in (self._look_after_list(), self._notice_drain()):
            self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def stop(self, within_s: float) -> None:
        """Finish the tiles in progress, and leave the scan to another process.

        Args:
            within_s: Time limit; tiles that exceed it are dropped and computed again later.
        """
        for task in self._tasks:
            task.cancel()
        await self._worker.stop(within_s)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._store.close()

    # --- what clients ask ---

    async def submit(
        self, body: ScanBody, *, client: str, idempotency_key: str | None
    ) -> tuple[Job, bool]:
        """Add a scan to the list; returns it, and whether it is new.

        Raises:
            ServiceError: The scan cannot be run at all, or cannot be accepted now.
        """
        if body.options.answer_bits > self._answer_bits:
            detail = (
                f"options.answer_bits is {body.options.answer_bits} and this service answers in "
                f"{self._answer_bits} bits; an operator sets SEMSR_ANSWER_BITS=16"
            )
            raise UnsuitableScan(detail, fields=[("options.answer_bits", detail)])
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
        self._worker.wake()
        return job, is_new

    async def get(self, job_id: str) -> Job:
        """Return a scan.

        Raises:
            UnknownScan: No scan has this id.
        """
        return await self._ask(lambda: self._store.get(job_id))

    async def listing(
        self,
        *,
        limit: int,
        states: Sequence[State],
        before: str | None,
        ended_after_s: float | None,
    ) -> list[Job]:
        """List scans; see `JobStore.listing`."""
        return await self._ask(
            lambda: self._store.listing(
                limit=limit, states=states, before=before, ended_after_s=ended_after_s
            )
        )

    async def manifest(self, job_id: str) -> tuple[str, BinaryIO]:
        """Open the manifest that the last run of a scan has written.

        Returns:
            Its name and the open file.

        Raises:
            UnknownScan: No scan has this id.
            NoManifest: There is none, or it cannot be read now.
        """
        job = await self.get(job_id)
        place = str((job.progress.result or {}).get("manifest", ""))
        folder, separator, name = place.rpartition("/")
        if not separator or place.startswith("not written"):
            reason = place or f"it is {job.state}; a manifest is written when a run ends"
            raise NoManifest(f"the scan {job_id} has no manifest: {reason}")
        try:
            return name, await asyncio.to_thread(self._roots.open, folder, name)
        except (ScanError, OSError) as error:
            log.warning("manifest_unreadable", scan=job_id, error=str(error))
            raise NoManifest(f"the manifest {place} cannot be read: {error}") from error

    async def pause(self, job_id: str) -> Job:
        """See `JobStore.pause`."""
        job = await self._ask(lambda: self._store.pause(job_id))
        self._worker.wake()
        return job

    async def resume(self, job_id: str) -> Job:
        """See `JobStore.resume`."""
        job = await self._ask(lambda: self._store.resume(job_id))
        self._worker.wake()
        return job

    async def cancel(self, job_id: str) -> Job:
        """See `JobStore.cancel`."""
        job = await self._ask(lambda: self._store.cancel(job_id))
        if job.state is State.CANCELLED:
            await remove_folder(self._folder / job_id)
        self._worker.wake()
        return job

    async def forget(self, job_id: str) -> bool:
        """Remove a scan that has ended, with its journal; False if it has not ended."""
        is_gone = await self._ask(lambda: self._store.forget(job_id))
        if is_gone:
            await remove_folder(self._folder / job_id)
        return is_gone

    async def _ask(self, question: Callable[[], Result]) -> Result:
        """Run a request of a client on the list of scans.

        Raises:
            NotReady: The database does not answer, or is unusable.
            ServiceError: The list rejects the request.
        """
        try:
            return await asyncio.to_thread(question)
        except UnusableDatabaseError as error:
            log.warning("scans_unusable", error=str(error))
            raise NotReady(
                f"the list of scans cannot be used: {error.reason}. Retrying does not help: "
                "the operator must repair it (docs/scans.md, When something is missing)",
                retry_after_s=_REPAIR_S,
            ) from error
        except DatabaseError as error:
            log.warning("scans_unavailable", error=str(error))
            raise NotReady(
                "the list of scans cannot be reached now; the log says why", retry_after_s=5.0
            ) from error

    # --- in the background ---

    async def _notice_drain(self) -> None:
        await self._lifecycle.draining.wait()
        self._worker.begin_stop()

    async def _look_after_list(self) -> None:
        """Put back scans of dead processes, update the metrics, and remove old scans."""
        forget_at_s = 0.0
        while True:
            try:
                await self._worker.settle_left_behind()
                await self._figures.measure()
                if time.monotonic() >= forget_at_s:
                    forget_at_s = time.monotonic() + _FORGET_EVERY_S
                    for job_id in await asyncio.to_thread(self._store.forget_old, self._keep_s):
                        await remove_folder(self._folder / job_id)
            except DatabaseError as error:
                log.debug("scans_unavailable", error=str(error))  # the worker logs it as a warning
            except Exception:
                log.exception("scan_jobs_failed")
            await asyncio.sleep(_MEASURE_S)


def _database(settings: Settings, state: Path) -> Database:
    if settings.scan_database is not None:
        return PostgresDatabase(settings.scan_database.get_secret_value())
    return SqliteDatabase(state / "scans.sqlite")
