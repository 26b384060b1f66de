"""One run of a scan in this process, from its claim until it ends, is stopped or fails.

The tiles go through the upscaler that serves requests, in the class `nightly`, and so use the
capacity that online tiles leave free. The scan decodes and encodes in its own threads, so that
online images do not wait.
"""

import asyncio
import enum
import math
import threading
from dataclasses import replace
from pathlib import Path

import structlog

from engines.cpu import available_cpus
from service.batching.scheduler import NIGHTLY_PLACES
from service.ground.daemon_thread import in_daemon_thread
from service.ground.errors import NotReady, UnknownModel
from service.ground.priority import Priority
from service.hosting.lifecycle import Lifecycle
from service.hosting.serving import Serving
from service.scan_jobs.job import Ended, Job, State, setback_pause_s
from service.scan_jobs.progress import RunProgress
from service.scan_jobs.roots import Roots
from service.scan_jobs.schemas import ScanBody
from service.scan_jobs.served_model import ENGINE_AGAIN_S, ServedModel, served_model
from service.scans.errors import (
    FolderHeldError,
    ScanError,
    SourceMissingError,
    StoreLostError,
)
from service.scans.options import ModelLabel, ScanOptions
from service.scans.preparation import PreparedScan, prepare
from service.scans.scan import Scan
from service.scans.work_folder import WorkFolder
from service.settings import Settings

log = structlog.get_logger()

# Maximum number of consecutive runs without progress before a scan fails.
_MOST_SETBACKS = 24
_HELD_S = 5.0


class Stop(enum.Enum):
    """Reason for a run to stop early."""

    PAUSE = "paused"
    CANCEL = "stopped"
    WINDOW = "a pause window has begun"
    DRAIN = "the service is stopping"
    LOST = "another process has it"


class _StoppedError(Exception):
    """The run was stopped while its source or sink was being listed."""


class JobRun:
    """One run; create and use it on the event loop of the service.

    Attributes:
        progress: Its progress.
        model_version: Version of its model; None until the model is found.
    """

    def __init__(
        self, job: Job, *, folder: Path, roots: Roots, lifecycle: Lifecycle, settings: Settings
    ) -> None:
        """Prepare.

        Args:
            job: The scan, which this process owns.
            folder: Folder of its journal.
            roots: Folders and prefixes that it may use.
            lifecycle: The service's models.
            settings: The service's settings.
        """
        self._job = job
        self._folder = folder
        self._roots = roots
        self._lifecycle = lifecycle
        self._settings = settings
        self._reason: Stop | None = None
        self._is_stopped = threading.Event()
        self._scan: Scan | None = None
        self._damage: str | None = None
        self.model_version: str | None = None
        self.progress = RunProgress(job.progress)

    def stop(self, reason: Stop) -> None:
        """Begin no more tiles, but finish the tiles in progress."""
        self._reason = self._reason or reason
        self._is_stopped.set()
        if self._scan is not None:
            self._scan.stop()

    async def run(self) -> Ended:
        """Run until the scan ends or stops. Expected errors become states; others are raised."""
        try:
            await self._run()
        except _StoppedError:
            return await self._stopped()
        except FolderHeldError as error:
            # Its former owner has not noticed yet that it lost the lease, or is ending.
            return Ended(State.QUEUED, await self.progress.now(), str(error), _HELD_S)
        except StoreLostError as error:
            return await self._set_back(error)
        except SourceMissingError as error:
            if self._job.progress.counts is None:
                return await self._failed(error)
            return await self._set_back(error)  # it was there
        except (ScanError, UnknownModel) as error:
            if self._reason is not None or self._lifecycle.has_failed:
                return await self._stopped()
            return await self._failed(error)
        counts = self.progress.counts
        assert counts is not None  # noqa: S101 (it was listed)
        if self._reason is not None and counts.pending:
            return await self._stopped()
        if self._damage is not None:
            return Ended(State.INCOMPLETE, await self.progress.final(), self._damage)
        if counts.failed:
            detail = f"{counts.failed} of {counts.total} tiles failed; the manifest says why"
            return Ended(State.INCOMPLETE, await self.progress.final(), detail)
        return Ended(State.DONE, await self.progress.final())

    async def _run(self) -> None:
        body = ScanBody.model_validate(self._job.body)
        # Links were resolved when it was submitted, wherever they lead by now.
        request = body.request(source=self._job.source, sink=self._job.sink)
        serving = await self._wait_for_model(body.options.model)
        model = served_model(serving, self._settings, answer_bits=body.options.answer_bits)
        self.model_version = model.bundle.version
        log.info(
            "scan_model",
            scan=self._job.id,
            model=model.name,
            model_version=self.model_version,
            engine=model.engine,
            precision=model.precision,
        )
        stores = self._roots.stores(self._check_stopped)
        work = WorkFolder(self._folder)
        await in_daemon_thread(work.__enter__)
        try:
            prepared = await in_daemon_thread(
                lambda: prepare(
                    request,
                    model,
                    work,
                    verify=body.options.verify,
                    open_store=stores,
                    on_listed=self._check_stopped,
                )
            )
            try:
                await self._run_prepared(prepared, model)
            finally:
                await in_daemon_thread(prepared.close)
        finally:
            await in_daemon_thread(lambda: (stores.close(), work.__exit__(None, None, None)))

    async def _run_prepared(self, prepared: PreparedScan, model: ModelLabel) -> None:
        """Compute the pending tiles and write the manifest."""
        self._damage = prepared.damage
        result = self.progress.result
        result |= {
            "lost": prepared.lost,
            "skipped": dict(prepared.skipped),
            "notes": prepared.source.notes,
        }
        is_lost = False
        try:
            is_whole = await self._compute(prepared, model)
            if is_whole and self._reason is not Stop.LOST:
                # A scan has not ended before its manifest is written.
                result["manifest"] = await in_daemon_thread(
                    lambda: prepared.put_manifest(self._folder)
                )
        except StoreLostError:
            is_lost = True
            raise
        finally:
            if not is_lost and "manifest" not in result and self._writes_manifest():
                result["manifest"] = await in_daemon_thread(
                    lambda: prepared.try_manifest(self._folder, names_folder=False)
                )
            await self.progress.leave_journal()

    async def _compute(self, prepared: PreparedScan, model: ModelLabel) -> bool:
        """Compute the pending tiles; returns whether none is left."""
        journal = prepared.journal
        await self.progress.begin(journal)
        served = ServedModel(
            model, self._lifecycle, self._settings, is_stopped=lambda: self._reason is not None
        )
        self._scan = await asyncio.to_thread(
            lambda: Scan(
                prepared.source,
                prepared.sink,
                journal,
                served,
                self._options(prepared, model),
                on_progress=self.progress.note,
            )
        )
        if self._reason is not None:
            self._scan.stop()
        await self._scan.run()
        counts = self.progress.counts
        if counts is None or counts.pending:
            return False
        await in_daemon_thread(lambda: prepared.sink.finish(journal))
        return True

    def _options(self, prepared: PreparedScan, model: ModelLabel) -> ScanOptions:
        return ScanOptions.of(
            prepared.request,
            model,
            engine_slots=self._settings.engine_processes,
            cores=available_cpus(),
            io_at_once=prepared.io_at_once,
            priority=Priority.NIGHTLY,
            max_places=math.ceil(NIGHTLY_PLACES * self._settings.max_queue),
        )

    async def _wait_for_model(self, name: str | None) -> Serving:
        while True:
            try:
                return self._lifecycle.find_model(name)
            except NotReady:
                if self._lifecycle.has_failed:
                    self.stop(Stop.DRAIN)
                self._check_stopped()
            await asyncio.sleep(ENGINE_AGAIN_S)

    def _check_stopped(self) -> None:
        if self._is_stopped.is_set():
            raise _StoppedError

    def _writes_manifest(self) -> bool:
        """Whether to write a manifest: not if the scan will go on without a client."""
        return self._reason in {None, Stop.PAUSE, Stop.CANCEL}

    async def _stopped(self) -> Ended:
        states = {Stop.PAUSE: State.PAUSED, Stop.CANCEL: State.CANCELLED}
        state = states.get(self._reason or Stop.DRAIN, State.QUEUED)
        return Ended(state, await self.progress.final(keeps_result=state is State.QUEUED))

    async def _failed(self, error: Exception) -> Ended:
        log.warning("scan_failed", scan=self._job.id, error=str(error))
        return Ended(State.FAILED, await self.progress.final(), str(error))

    async def _set_back(self, error: ScanError) -> Ended:
        """Requeue the scan after a lost store; fail it after too many runs without progress."""
        if self._reason is not None:
            return await self._stopped()
        progress = await self.progress.final()
        setbacks = self.progress.setbacks + 1
        progress = replace(progress, setbacks=setbacks)
        log.warning("scan_set_back", scan=self._job.id, error=str(error), setbacks=setbacks)
        if setbacks > _MOST_SETBACKS:
            return Ended(State.FAILED, progress, str(error))
        return Ended(State.QUEUED, progress, str(error), setback_pause_s(setbacks))
