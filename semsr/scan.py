"""`semsr scan`: super-resolves a whole lot of tiles with the service's code, without a server."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from engines.cpu import available_cpus
from engines.registry import load_engine
from semsr.engine_room import EngineRoom, model_label
from semsr.interrupts import sigterm_interrupts
from semsr.progress import progress
from semsr.scan_report import ScanReport
from service.hosting.loading import EngineLoader, LoadedModel, load_model
from service.scans.checks import check_new_stack, check_request
from service.scans.errors import ScanError
from service.scans.options import ModelLabel, ScanOptions, ScanRequest
from service.scans.pins import owns_stack, pinned_engine
from service.scans.preparation import PreparedScan, prepare
from service.scans.rows import Counts
from service.scans.scan import Scan
from service.scans.work_folder import WorkFolder
from service.settings import Settings

_SHOWN_FAILURES = 10


def run_scan(
    request: ScanRequest,
    *,
    settings: Settings,
    work: Path,
    resume: bool = True,
    overwrite: bool = False,
    verify: bool = False,
    engine_loader: EngineLoader = load_engine,
) -> ScanReport:
    """Run a scan, or the rest of it.

    Args:
        request: Source, sink and how tiles are read and written.
        settings: Bundle, engine and the rest, as for the service.
        work: Folder of the journal.
        resume: Whether to continue where an earlier run stopped; False starts again.
        overwrite: Whether to replace a stack that the scan of `work` has not written.
        verify: Whether to read every output of earlier runs and compare its hash.
        engine_loader: Function that loads an engine by name.

    Raises:
        ScanError: The scan cannot start.
        bundle_format.bundle.BundleError: The bundle cannot be read.
        engines.protocol.EngineError: The engine cannot be loaded.
    """
    check_request(request, work=work)
    with sigterm_interrupts(), WorkFolder(work) as folder:
        overwrite = check_overwrite(request, folder, resume=resume, overwrite=overwrite)
        if resume and settings.engine == "auto":
            named = {} if settings.precision is None else {"precision": settings.precision}
            settings = settings.model_copy(update={**pinned_engine(folder), **named})
        with progress(f"loading the engine {settings.engine}"):
            model = load_model(settings.bundle, settings, engine_loader)
        try:
            if not resume:
                folder.forget()
            prepared = list_scan(
                request, model_label(model), folder, verify=verify, overwrite=overwrite
            )

            def compute(show: Callable[[Counts], None]) -> bool:
                # The event loop resets SIGTERM to the system's handler before the sink is finished.
                with sigterm_interrupts():
                    return uvloop.run(_scan(prepared, model, settings, show))

            try:
                return run_prepared(prepared, work, compute)
            finally:
                prepared.close()
        finally:
            model.engine.close()


def check_overwrite(
    request: ScanRequest, folder: WorkFolder, *, resume: bool, overwrite: bool
) -> bool:
    """Refuse to replace an existing stack that the scan of the folder has not written.

    Args:
        request: Source, sink and how tiles are read and written.
        folder: Work folder, locked by this process and with the earlier run's journal.
        resume: Whether to continue where an earlier run stopped.
        overwrite: Whether to replace such a stack.

    Returns:
        Whether an existing stack may be replaced; without `resume` also the one of this folder's
        scan.

    Raises:
        ScanError: Such a stack exists, or the journal to resume is damaged.
    """
    if overwrite or not request.is_stack:
        return overwrite
    try:
        is_own = owns_stack(folder, request.sink)
    except ScanError:
        if resume:
            raise
        is_own = False
    if not is_own:
        check_new_stack(request, advice="give --overwrite to replace it")
    return is_own and not resume


def list_scan(
    request: ScanRequest,
    model: ModelLabel,
    folder: WorkFolder,
    *,
    verify: bool,
    overwrite: bool = False,
) -> PreparedScan:
    """Prepare a scan, see `preparation.prepare`, and show the progress of its listing."""
    with progress(f"listing {request.source}", unit="file") as steps:
        return prepare(
            request, model, folder, verify=verify, overwrite=overwrite, on_listed=steps.update
        )


def run_prepared(
    prepared: PreparedScan, work: Path, compute: Callable[[Callable[[Counts], None]], bool]
) -> ScanReport:
    """Compute the pending tiles, finish the sink, and write the manifest.

    Args:
        prepared: The scan.
        work: Folder of the journal.
        compute: Function that computes and records the pending tiles, and calls its argument after
            every group of tiles. It returns whether a signal stopped it, and may raise ScanError.
    """
    journal = prepared.journal
    before = journal.counts()
    started_s = time.perf_counter()
    ended_by: str | None = None
    was_stopped = False
    shown = before.done
    try:
        with progress("scan", before.total, unit="tile", done=before.done) as steps:

            def show(counts: Counts) -> None:
                nonlocal shown
                if counts.failed:
                    steps.say(f"{counts.failed} failed")
                steps.update(counts.done + counts.failed - shown)
                shown = counts.done + counts.failed

            was_stopped = compute(show)
    except ScanError as error:
        ended_by = str(error)
    seconds = time.perf_counter() - started_s
    counts = journal.counts()
    was_stopped = was_stopped and counts.pending > 0
    try:
        if was_stopped:
            ended_by = "stopped by a signal"
        elif ended_by is None:
            prepared.sink.finish(journal)
    except ScanError as error:
        ended_by = str(error)
    pins = journal.pins()
    return ScanReport(
        model=f"{pins['model']} {pins['model_version']}",
        counts=counts,
        computed=counts.done + counts.failed - before.done,
        lost=prepared.lost,
        skipped=prepared.skipped,
        damage=prepared.damage,
        notes=prepared.source.notes,
        failures=journal.failures(_SHOWN_FAILURES),
        seconds=seconds,
        manifest=prepared.try_manifest(work),
        ended_by=ended_by,
        was_stopped=was_stopped,
    )


async def _scan(
    prepared: PreparedScan,
    model: LoadedModel,
    settings: Settings,
    on_progress: Callable[[Counts], None],
) -> bool:
    """Compute the pending tiles.

    Returns:
        Whether a signal stopped it early.

    Raises:
        ScanError: The source, the sink or the engine is lost.
    """
    room = EngineRoom(model, settings)
    options = ScanOptions.of(
        prepared.request,
        model_label(model),
        engine_slots=model.engine.slots,
        cores=available_cpus(),
        io_at_once=prepared.io_at_once,
    )
    scan = Scan(
        prepared.source,
        prepared.sink,
        prepared.journal,
        room,
        options,
        on_progress=on_progress,
    )
    work = asyncio.create_task(scan.run())
    stopped = _stop_on_signals(scan, work)
    try:
        done, _ = await asyncio.wait(
            {work, watch := asyncio.create_task(room.watch())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        if watch in done:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            watch.result()
        watch.cancel()
        try:
            await work
        except asyncio.CancelledError:
            return True
    finally:
        await room.close()
    return stopped.is_set()


def _stop_on_signals(scan: Scan, work: asyncio.Task[None]) -> asyncio.Event:
    """Stop cleanly at the first SIGINT or SIGTERM, at once at the second."""
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            work.cancel()
            return
        stopped.set()
        scan.stop()
        sys.stderr.write("\nstopping: finishing the tiles in flight; a second signal drops them\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stopped
