"""One run of a scan in this process: from its claim until it ends, is stopped, or cannot go on.

The tiles go through the upscaler that serves requests, in the class `nightly`, so that they take
what online tiles leave. Codecs have threads of their own, or online images would wait there.
"""

import asyncio
import contextlib
import enum
import math
import shutil
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from engines.cpu import available_cpus
from service.batching.scheduler import NIGHTLY_PLACES
from service.ground.daemon_thread import in_daemon_thread
from service.ground.errors import NotReady, UnknownModel
from service.ground.priority import Priority
from service.hosting.lifecycle import Lifecycle
from service.hosting.serving import Serving
from service.scan_jobs.body import ScanBody
from service.scan_jobs.job import Job, Progress, State, setback_pause_s
from service.scan_jobs.rate import RateMeter
from service.scan_jobs.roots import Roots
from service.scan_jobs.served_model import ENGINE_AGAIN_S, ServedModel, served_model
from service.scans.errors import (
    FolderHeldError,
    ScanError,
    SourceMissingError,
    StoreLostError,
)
from service.scans.options import ScanOptions
from service.scans.preparation import LabelledModel, PreparedScan, prepare
from service.scans.rows import Counts
from service.scans.scan import Scan
from service.scans.work_folder import WorkFolder
from service.settings import Settings

log = structlog.get_logger()

_SHOWN_FAILURES = 10
# A store that is lost is tried again so often without getting anywhere.
_MOST_SETBACKS = 24
_HELD_S = 5.0


class Stop(enum.Enum):
    """Why a run is to end before its end."""

    PAUSE = "paused"
    CANCEL = "stopped"
    WINDOW = "a pause window has begun"
    DRAIN = "the service is stopping"
    LOST = "another process has it"


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        state: Where the scan is then.
        detail: Why.
        progress: How far it is.
        retry_in_s: It is not tried again before, or None.
    """

    state: State
    detail: str
    progress: Progress
    retry_in_s: float | None = None


class _StoppedError(Exception):
    """The run was stopped while its source or sink was being listed."""


class JobRun:
    """One run; create and use it on the event loop of the service."""

    def __init__(
        self, job: Job, *, folder: Path, roots: Roots, lifecycle: Lifecycle, settings: Settings
    ) -> None:
        """Prepare.

        Args:
            job: The scan, which this process has.
            folder: Of its journal.
            roots: What it may read and write.
            lifecycle: Knows the models.
            settings: The service's.
        """
        self._job = job
        self._folder = folder
        self._roots = roots
        self._lifecycle = lifecycle
        self._settings = settings
        self._reason: Stop | None = None
        self._is_stopped = threading.Event()
        self._scan: Scan | None = None
        self._prepared: PreparedScan | None = None
        # The journal is not closed while somebody reads it.
        self._reading = asyncio.Lock()
        self._rate = RateMeter()
        self._counts: Counts | None = None
        self._before: Counts | None = None
        self._failures: list[tuple[str, str]] = []
        self._damage: str | None = None
        self._started_s = time.monotonic()

    @property
    def counts(self) -> Counts | None:
        """Tiles of the scan; None before they are listed."""
        return self._counts

    @property
    def counts_before(self) -> Counts | None:
        """The same when this run began."""
        return self._before

    def stop(self, reason: Stop) -> None:
        """Begin no more tiles; those under way are finished."""
        self._reason = self._reason or reason
        self._is_stopped.set()
        if self._scan is not None:
            self._scan.stop()

    async def progress(self) -> Progress:
        """Say how far the scan is."""
        counts = self._counts
        if counts is None:
            return self._job.progress
        self._rate.note(time.monotonic(), counts.done + counts.failed)
        shown = min(counts.failed, _SHOWN_FAILURES)
        async with self._reading:
            if self._prepared is not None and len(self._failures) != shown:
                journal = self._prepared.journal
                # A journal that cannot be read ends the run, which says so.
                with contextlib.suppress(ScanError):
                    self._failures = await asyncio.to_thread(journal.failures, _SHOWN_FAILURES)
        return Progress(
            counts=counts,
            # Until it is known what this run does, what the last one did is the best guess.
            tiles_per_s=self._rate.tiles_per_s() or self._job.progress.tiles_per_s,
            failures=self._failures,
            setbacks=self._setbacks(),
            result=self._job.progress.result,
        )

    def _setbacks(self) -> int:
        """Setbacks before this run; none any more once it has got somewhere."""
        has_advanced = self._counts is not None and self._counts != self._before
        return 0 if has_advanced else self._job.progress.setbacks

    async def run(self) -> Ended:
        """Run until the end; what it raises is a fault of this code."""
        result: dict[str, Any] = {}
        try:
            await self._run(result)
        except _StoppedError:
            return await self._stopped(result)
        except FolderHeldError as error:
            # Its former owner has lost the lease and has not noticed yet, or is ending.
            return Ended(State.QUEUED, str(error), await self.progress(), _HELD_S)
        except StoreLostError as error:
            return await self._set_back(error, result)
        except SourceMissingError as error:
            if self._job.progress.counts is None:
                return await self._failed(error, result)
            return await self._set_back(error, result)  # it was there
        except (ScanError, UnknownModel) as error:
            if self._reason is not None or self._lifecycle.has_failed:
                return await self._stopped(result)
            return await self._failed(error, result)
        counts = self._counts
        assert counts is not None  # noqa: S101 (it was listed)
        if self._reason is not None and counts.pending:
            return await self._stopped(result)
        if self._damage is not None:
            return Ended(State.INCOMPLETE, self._damage, await self._final(result))
        if counts.failed:
            detail = f"{counts.failed} of {counts.total} tiles failed; the manifest says why"
            return Ended(State.INCOMPLETE, detail, await self._final(result))
        return Ended(State.DONE, "", await self._final(result))

    async def _run(self, result: dict[str, Any]) -> None:
        body = ScanBody.model_validate(self._job.body)
        # As they were when it was asked for, whatever a link in their paths leads to by now.
        request = body.request(source=self._job.source, sink=self._job.sink)
        serving = await self._wait_for_model(body.options.model)
        model = served_model(serving, self._settings)
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
            self._prepared = prepared
            self._damage = prepared.damage
            is_lost = False
            try:
                is_whole = await self._compute(prepared, model)
                if is_whole and self._reason is not Stop.LOST:
                    # A scan has not ended before it has said what became of its tiles.
                    result["manifest"] = await in_daemon_thread(
                        lambda: prepared.put_manifest(self._folder)
                    )
            except StoreLostError:
                is_lost = True
                raise
            finally:
                if not is_lost and "manifest" not in result and self._writes_manifest():
                    result["manifest"] = await self._try_manifest(prepared)
                result["lost"], result["skipped"] = prepared.lost, dict(prepared.skipped)
                result["notes"] = prepared.source.notes
                await self.progress()
                async with self._reading:
                    self._prepared = None
                await in_daemon_thread(prepared.close)
        finally:
            await in_daemon_thread(lambda: (stores.close(), work.__exit__(None, None, None)))

    async def _compute(self, prepared: PreparedScan, model: LabelledModel) -> bool:
        """Compute what is pending; returns whether nothing is any more."""
        journal = prepared.journal
        self._before = self._counts = await asyncio.to_thread(journal.counts)
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
                on_progress=self._note,
            )
        )
        if self._reason is not None:
            self._scan.stop()
        await self._scan.run()
        if self._counts.pending:
            return False
        await in_daemon_thread(lambda: prepared.sink.finish(journal))
        return True

    def _note(self, counts: Counts) -> None:
        self._counts = counts

    def _options(self, prepared: PreparedScan, model: LabelledModel) -> ScanOptions:
        manifest, request = model.bundle.manifest, prepared.request
        io_at_once = max(prepared.source.io_at_once, prepared.sink.io_at_once)
        engines = model.max_batch_size * self._settings.engine_processes
        places = math.ceil(NIGHTLY_PLACES * self._settings.max_queue)
        return ScanOptions(
            scale=manifest.scale,
            tile_bytes=manifest.tile[0] * manifest.tile[1],
            look_ahead=min(places, 2 * (engines + available_cpus()) + 2 * io_at_once),
            cores=available_cpus(),
            priority=Priority.NIGHTLY,
            window=request.window,
            answer_dtype=request.answer_dtype,
            pixel_size=request.pixel_size,
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

    async def _try_manifest(self, prepared: PreparedScan) -> str:
        """Return where the manifest lies, or why nowhere: clients do not see the scan's folder."""
        try:
            return await in_daemon_thread(lambda: prepared.put_manifest(self._folder))
        except ScanError as error:
            return f"not written: {error}"

    def _writes_manifest(self) -> bool:
        """Whether people want to see what there is: not when it goes on by itself."""
        return self._reason in {None, Stop.PAUSE, Stop.CANCEL}

    async def _stopped(self, result: dict[str, Any]) -> Ended:
        reason = self._reason or Stop.DRAIN
        states = {Stop.PAUSE: State.PAUSED, Stop.CANCEL: State.CANCELLED}
        state = states.get(reason, State.QUEUED)
        if state is State.QUEUED:
            return Ended(state, "", await self._final(result, keep=True))
        return Ended(state, "", await self._final(result))

    async def _failed(self, error: Exception, result: dict[str, Any]) -> Ended:
        log.warning("scan_failed", scan=self._job.id, error=str(error))
        return Ended(State.FAILED, str(error), await self._final(result))

    async def _set_back(self, error: ScanError, result: dict[str, Any]) -> Ended:
        """A store is lost: the scan is tried again later, for as long as that leads somewhere."""
        if self._reason is not None:
            return await self._stopped(result)
        progress = await self._final(result)
        setbacks = self._setbacks() + 1
        progress = replace(progress, setbacks=setbacks)
        log.warning("scan_set_back", scan=self._job.id, error=str(error), setbacks=setbacks)
        if setbacks > _MOST_SETBACKS:
            return Ended(State.FAILED, str(error), progress)
        return Ended(State.QUEUED, str(error), progress, setback_pause_s(setbacks))

    async def _final(self, result: dict[str, Any], *, keep: bool = False) -> Progress:
        """Say how far the scan is at the end of this run; `keep` the result of an earlier one."""
        progress = replace(await self.progress(), setbacks=0)
        counts, before = self._counts, self._before
        if keep or counts is None or before is None:
            return progress
        computed = counts.done + counts.failed - before.done - before.failed
        return replace(
            progress,
            result={
                "missing": counts.total - counts.done,
                "computed": computed,
                "seconds": round(time.monotonic() - self._started_s, 3),
                **result,
            },
        )


async def remove_folder(folder: Path) -> None:
    """Remove a scan's journal: nothing is left that it could be resumed for."""
    await in_daemon_thread(lambda: shutil.rmtree(folder, ignore_errors=True))
