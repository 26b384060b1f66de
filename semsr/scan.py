"""`semsr scan`: a whole lot through the service's own code, without a server."""

import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from export.bundle import load_bundle
from semsr.engine_room import EngineRoom
from semsr.progress import progress
from semsr.scan_report import ScanReport
from service.engines import load_engine
from service.engines.cpu import available_cpus
from service.loading import EngineLoader, LoadedModel, load_model
from service.scans.checks import check_request
from service.scans.errors import ScanError, SourceDamagedError
from service.scans.journal import Journal
from service.scans.opening import open_source
from service.scans.options import ScanOptions, ScanRequest
from service.scans.preparation import (
    PreparedScan,
    ScanModel,
    count_skipped,
    mirrored_name,
    no_tiles,
    pinned_engine,
    prepare,
)
from service.scans.rows import Counts
from service.scans.scan import Scan
from service.scans.sources import Listed
from service.scans.work_folder import WorkFolder
from service.scheduling.scheduler import Priority
from service.settings import Settings

_SHOWN_FAILURES = 10


def run_scan(
    request: ScanRequest,
    *,
    settings: Settings,
    work: Path,
    resume: bool = True,
    verify: bool = False,
    engine_loader: EngineLoader = load_engine,
) -> ScanReport:
    """Run a scan, or what is left of it.

    Args:
        request: Source, sink and how tiles are read and written.
        settings: Bundle, engine and the rest, as for the service.
        work: Folder of the journal.
        resume: Go on where an earlier run stopped; False begins anew.
        verify: Read every output of earlier runs and compare its hash.
        engine_loader: Loads an engine by name; tests give their own.

    Raises:
        ScanError: The scan cannot start.
        export.bundle.BundleError: The bundle cannot be read.
        service.engines.EngineError: The engine cannot be loaded.
    """
    check_request(request, work=work)
    with WorkFolder(work) as folder:
        if not resume:
            folder.forget()
        if settings.engine == "auto" and (engine := pinned_engine(folder)) is not None:
            settings = settings.model_copy(update={"engine": engine})
        with progress(f"loading the engine {settings.engine}"):
            model = load_model(settings.bundle, settings, engine_loader)
        try:
            prepared = list_scan(request, model, folder, verify=verify)
            try:
                return run_prepared(
                    prepared,
                    work,
                    lambda show: uvloop.run(_scan(prepared, model, settings, show)),
                )
            finally:
                prepared.close()
        finally:
            model.engine.close()


def dry_run(request: ScanRequest, *, settings: Settings, work: Path) -> dict[str, Any]:
    """List a source and say what a scan would do, writing nothing.

    Raises:
        ScanError: The scan could not start.
        export.bundle.BundleError: The bundle cannot be read.
    """
    check_request(request, work=work)
    manifest = load_bundle(settings.bundle).manifest
    skipped: Counter[str] = Counter()
    size_bytes = 0
    damage: str | None = None
    with tempfile.TemporaryDirectory(prefix="semsr-scan-") as folder:
        source = open_source(
            request.source, spool=Path(folder) / "spool", patience_s=request.patience_s
        )
        journal = Journal(Path(folder) / "journal.sqlite")

        def tiles() -> Iterator[tuple[Listed, str | None]]:
            nonlocal size_bytes, damage
            try:
                for listed in source.listing():
                    steps.update()
                    if listed.is_tile:
                        size_bytes += listed.size_bytes
                        yield listed, mirrored_name(request, listed, manifest.scale)
                    else:
                        count_skipped(listed, skipped)
            except SourceDamagedError as error:
                damage = str(error)

        with progress(f"listing {request.source}", unit="file") as steps:
            journal.list_tiles(tiles())
        total = journal.counts().total
        journal.close()
        source.close()
    if not total:
        raise ScanError(damage or no_tiles(request.source, skipped))
    done = 0
    if (work / "journal.sqlite").exists():
        known = Journal(work / "journal.sqlite")
        done = known.counts().done
        known.close()
    return {
        "source": request.source,
        "sink": request.sink,
        "tiles": total,
        "input_bytes": size_bytes,
        "done": done,
        "skipped": dict(skipped),
        "damage": damage,
        "notes": source.notes,
        "model": manifest.name,
        "scale": manifest.scale,
    }


def list_scan(
    request: ScanRequest, model: ScanModel, folder: WorkFolder, *, verify: bool
) -> PreparedScan:
    """Prepare a scan, see `preparation.prepare`, and show how far its listing is."""
    with progress(f"listing {request.source}", unit="file") as steps:
        return prepare(request, model, folder, verify=verify, on_listed=steps.update)


def run_prepared(
    prepared: PreparedScan, work: Path, compute: Callable[[Callable[[Counts], None]], bool]
) -> ScanReport:
    """Compute what is pending, finish the sink, write the manifest.

    Args:
        prepared: The scan.
        work: Folder of the journal.
        compute: Computes and records what is pending, calling its argument after every group of
            tiles; returns whether a signal stopped it, raises ScanError.
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
    return ScanReport(
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
    """Compute what is pending.

    Returns:
        Whether a signal stopped it before its end.

    Raises:
        ScanError: The source, the sink or the engine is lost.
    """
    room = EngineRoom(model, settings)
    io_at_once = max(prepared.source.io_at_once, prepared.sink.io_at_once)
    scan = Scan(
        prepared.source,
        prepared.sink,
        prepared.journal,
        room,
        scan_options(prepared.request, model, cores=available_cpus(), io_at_once=io_at_once),
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


def scan_options(
    request: ScanRequest, model: LoadedModel, *, cores: int, io_at_once: int
) -> ScanOptions:
    """Say how tiles are read and written, where nobody else is served.

    Args:
        request: What was asked for.
        model: What runs.
        cores: For decoding and encoding.
        io_at_once: Of the source or the sink, whichever is more.
    """
    manifest = model.bundle.manifest
    return ScanOptions(
        scale=manifest.scale,
        tile_bytes=manifest.tile[0] * manifest.tile[1],
        # All that input and output work on, twice what engine and codecs do.
        look_ahead=2 * (model.max_batch_size * model.engine.slots + cores) + 2 * io_at_once,
        cores=cores,
        # The class that may use every slot.
        priority=Priority.ONLINE,
        window=request.window,
        answer_dtype=request.answer_dtype,
        pixel_size=request.pixel_size,
    )


def _stop_on_signals(scan: Scan, work: asyncio.Task[None]) -> asyncio.Event:
    """Stop cleanly at the first SIGINT or SIGTERM, at once at the second."""
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            work.cancel()
            return
        stopped.set()
        scan.stop()
        sys.stderr.write("\nstopping: what is under way is finished; once more drops it\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stopped
