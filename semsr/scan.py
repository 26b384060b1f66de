"""`semsr scan`: a whole lot through the service's own code, without a server."""

import asyncio
import math
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvloop
from tqdm import tqdm

from export.bundle import load_bundle
from semsr.scan_report import ScanReport
from service.admission import Places
from service.batch_reporter import BatchReporter
from service.batcher import Batcher
from service.engines import load_engine
from service.engines.cpu import available_cpus
from service.loading import BATCH_OVERHEAD_S, EngineLoader, LoadedModel, load_model
from service.metrics import Metrics
from service.request import TileRequest
from service.scans.errors import ScanError
from service.scans.journal import Journal
from service.scans.opening import open_source
from service.scans.preparation import (
    PreparedScan,
    ScanRequest,
    check_apart,
    mirrored_name,
    pinned_engine,
    prepare,
)
from service.scans.rows import Counts
from service.scans.scan import Scan, ScanOptions
from service.scans.sources import Listed
from service.scans.work_folder import WorkFolder
from service.scheduling.costs import BatchCosts
from service.scheduling.scheduler import Priority
from service.settings import Settings
from service.upscaler import Answer, Upscaler

# The scan's own look-ahead bounds what is under way; the batcher's places must not refuse it.
_PLACES = 100_000
_WATCH_PERIOD_S = 1.0
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
    with WorkFolder(work) as folder:
        if not resume:
            folder.forget()
        if settings.engine == "auto" and (engine := pinned_engine(folder)) is not None:
            settings = settings.model_copy(update={"engine": engine})
        model = load_model(settings.bundle, settings, engine_loader)
        try:
            prepared = prepare(request, model, folder, verify=verify)
            try:
                return _run_prepared(prepared, model, settings, work)
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
    manifest = load_bundle(settings.bundle).manifest
    check_apart(request.source, sink=request.sink)
    skipped: Counter[str] = Counter()
    size_bytes = 0
    with tempfile.TemporaryDirectory(prefix="semsr-scan-") as folder:
        source = open_source(
            request.source, spool=Path(folder) / "spool", patience_s=request.patience_s
        )
        journal = Journal(Path(folder) / "journal.sqlite")

        def tiles() -> Iterator[tuple[Listed, str | None]]:
            nonlocal size_bytes
            for listed in source.listing():
                if listed.is_tile:
                    size_bytes += listed.size_bytes
                    yield listed, mirrored_name(request, listed, manifest.scale)
                elif not listed.is_sidecar:
                    skipped[listed.suffix or "without suffix"] += 1

        journal.list_tiles(tiles())
        total = journal.counts().total
        journal.close()
        source.close()
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
        "model": manifest.name,
        "scale": manifest.scale,
    }


def _run_prepared(
    prepared: PreparedScan, model: LoadedModel, settings: Settings, work: Path
) -> ScanReport:
    journal = prepared.journal
    before = journal.counts()
    started_s = time.perf_counter()
    ended_by: str | None = None
    was_stopped = False
    with tqdm(
        total=before.total,
        initial=before.done,
        desc="scan",
        unit="tile",
        file=sys.stderr,
        disable=None,
    ) as bar:

        def show(counts: Counts) -> None:
            bar.set_postfix(errors=counts.failed, refresh=False)
            bar.update(counts.done + counts.failed - bar.n)

        try:
            was_stopped = uvloop.run(_scan(prepared, model, settings, show))
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
        failures=journal.failures(_SHOWN_FAILURES),
        seconds=seconds,
        manifest=prepared.put_manifest(work),
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
    codec_threads = ThreadPoolExecutor(available_cpus(), thread_name_prefix="codec")
    batcher, upscaler = _engine_room(model, settings, codec_threads)

    async def upscale(body: bytes, request: TileRequest) -> Answer:
        with upscaler.admit(priority=request.priority) as admission:
            return await upscaler.upscale(body, request, admission)

    manifest = model.bundle.manifest
    scan = Scan(
        prepared.source,
        prepared.sink,
        prepared.journal,
        upscale,
        ScanOptions(
            scale=manifest.scale,
            tile_bytes=manifest.tile[0] * manifest.tile[1],
            look_ahead=_look_ahead(prepared, model),
            # Nobody else is served: the class that may use every slot.
            priority=Priority.ONLINE,
            window=prepared.request.window,
            answer_dtype=prepared.request.answer_dtype,
            pixel_size=prepared.request.pixel_size,
        ),
        on_progress=on_progress,
    )
    work = asyncio.create_task(scan.run())
    stopped = _stop_on_signals(scan, work)
    try:
        done, _ = await asyncio.wait(
            {work, watch := asyncio.create_task(_watch(batcher, settings.engine_timeout_s))},
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
        batcher.close()
        await batcher.join(settings.shutdown_timeout_s)
        codec_threads.shutdown()
    return stopped.is_set()


def _look_ahead(prepared: PreparedScan, model: LoadedModel) -> int:
    """Tiles under way at once: as many again as engine, codecs and input/output work on."""
    io_threads = max(prepared.source.io_threads, prepared.sink.io_threads)
    return 2 * (model.max_batch_size * model.engine.slots + available_cpus() + io_threads)


def _engine_room(
    model: LoadedModel, settings: Settings, codec_threads: Executor
) -> tuple[Batcher, Upscaler]:
    """Put the model to work as the service does, with nobody to share it with."""
    metrics = Metrics()
    reporter = BatchReporter(
        metrics,
        model=model.name,
        version=model.bundle.version,
        precision=model.engine.precision,
        on_loop_failure=lambda _: None,  # the batcher then refuses, and the scan ends
    )
    batcher = Batcher(
        model.engine,
        costs=BatchCosts(model.batch_s, overhead_s=BATCH_OVERHEAD_S),
        max_queue=_PLACES,
        online_budget_s=math.inf,
        observer=reporter,
    )
    batcher.start()
    upscaler = Upscaler(
        batcher,
        model.bundle.manifest,
        metrics,
        places=Places(_PLACES, metrics),
        codec_threads=codec_threads,
        max_pixels=settings.max_pixels,
    )
    return batcher, upscaler


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


async def _watch(batcher: Batcher, timeout_s: float) -> None:
    """End when the engine hangs.

    Raises:
        ScanError: It does.
    """
    while True:
        await asyncio.sleep(_WATCH_PERIOD_S)
        if batcher.oldest_batch_s() > timeout_s:
            break
    raise ScanError(f"the engine has worked on one batch for {timeout_s:g} s")
