"""A scan over a cluster, from the request to its report; read this file first.

The journal is on this machine. Workers on the cluster have engines and open source and sink
(`worker`). `run` sends, records and retries tiles.
"""

import contextlib
import secrets
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bundle_format.bundle import load_bundle
from engines.registry import load_engine
from semsr.cluster.connection import WorkerSize, connected, worker_size
from semsr.cluster.run import ClusterRun
from semsr.cluster.worker import (
    PROBE,
    VERSION,
    FoundEngine,
    WorkerJob,
    WorkerModel,
    find_engine,
    take_sample,
)
from semsr.interrupts import sigterm_interrupts
from semsr.progress import progress
from semsr.scan import check_overwrite, list_scan, run_prepared
from semsr.scan_report import ScanReport
from service.hosting.loading import EngineLoader
from service.scans.checks import check_request
from service.scans.errors import ScanError, TileError
from service.scans.opening import open_store
from service.scans.options import ModelLabel, ScanRequest
from service.scans.pins import STACK_TILE, pinned_engine
from service.scans.work_folder import WorkFolder
from service.settings import Settings

# Settings that determine an engine's results and its time limits.
_SENT = (
    "bundle", "engine", "precision", "device", "hint", "threads", "max_batch_size", "max_pixels",
    "answer_bits", "cache_dir", "plan_cache", "engine_timeout_s", "shutdown_timeout_s",
)  # fmt: skip
# Time limit; a machine may have to build the engine first.
_LONGEST_LOAD_S = 900.0


def run_cluster_scan(
    request: ScanRequest,
    *,
    settings: Settings,
    work: Path,
    cluster: str,
    worker_cpus: int | None = None,
    resume: bool = True,
    overwrite: bool = False,
    verify: bool = False,
    engine_loader: EngineLoader = load_engine,
) -> ScanReport:
    """Run a scan, or the rest of it, over a cluster; see `semsr.scan.run_scan`.

    Args:
        request: Source, sink and how tiles are read and written.
        settings: Bundle, engine and the rest, as for the service.
        work: Folder of the journal, on this machine.
        cluster: Address, see `connection.connected`.
        worker_cpus: CPUs of each worker, or None to choose them from the machines' resources.
        resume: Whether to continue where an earlier run stopped; False starts again.
        overwrite: Whether to replace a stack that the scan of `work` has not written.
        verify: Whether to read every output of earlier runs and compare its hash.
        engine_loader: Function that loads an engine by name, on the workers.

    Raises:
        ScanError: The scan cannot start.
        bundle_format.bundle.BundleError: The bundle cannot be read.
    """
    check_shareable(request)
    check_request(request, work=work)
    settings = settings.model_copy(update={"bundle": settings.bundle.absolute()})
    bundle = load_bundle(settings.bundle)
    with sigterm_interrupts(), WorkFolder(work) as folder, connected(cluster) as ray:
        overwrite = check_overwrite(request, folder, resume=resume, overwrite=overwrite)
        if resume and settings.engine == "auto":
            named = {} if settings.precision is None else {"precision": settings.precision}
            settings = settings.model_copy(update={**pinned_engine(folder), **named})
        size = worker_size(ray.nodes(), settings, worker_cpus)
        model = _worker_model(settings, engine_loader, size.cpus)
        with progress("loading the engine on the cluster"):
            found = _ask_first_worker(ray, model, size)
        if found.digest != bundle.digest:
            raise ScanError(
                f"the bundle {settings.bundle} on the cluster differs from this machine's: "
                f"digest {found.digest}, here {bundle.digest}"
            )
        # The name that `load_model` gives.
        name = "identity" if found.name == "identity" else bundle.manifest.name
        model_there = ModelLabel(name, bundle, found.name, found.precision, found.max_batch_size)
        if not resume:
            folder.forget()
        prepared = list_scan(request, model_there, folder, verify=verify, overwrite=overwrite)
        # From here on every worker must use the first worker's engine, precision and batch size.
        pinned = {**model.settings, "engine": found.name, "precision": found.precision}
        pinned["max_batch_size"] = found.max_batch_size
        try:
            with _probe(request) as token:
                shape = prepared.journal.fact(STACK_TILE)
                first = next(prepared.journal.pending(), None)
                job = WorkerJob(
                    replace(request, source=absolute(request.source), sink=absolute(request.sink)),
                    replace(model, settings=pinned),
                    bundle.digest,
                    None if shape is None else (shape[0], shape[1]),
                    token,
                    None if first is None else take_sample(prepared.source, first.ref),
                )
                manifest = bundle.manifest
                tile_bytes = manifest.tile[0] * manifest.tile[1]
                return run_prepared(
                    prepared,
                    work,
                    lambda show: ClusterRun(
                        ray, prepared, job, size, tile_bytes=tile_bytes, on_progress=show
                    ).run(),
                )
        finally:
            prepared.close()


def check_shareable(request: ScanRequest) -> None:
    """Refuse a source or sink that only one machine can read or write.

    Raises:
        ScanError: The source would be copied to every worker, or the stack is assembled from
            shards in the work folder.
    """
    if request.is_stack and not request.sink.rstrip("/").lower().endswith(".zarr"):
        raise ScanError(
            f"a scan over a cluster writes a folder or a .zarr; {request.sink} is put together "
            "from shards in the work folder of one machine"
        )
    path = request.source.partition("::")[0].lower()
    is_remote = "://" in path and not path.startswith("file://")
    is_copied = path.endswith((".h5", ".hdf5", ".tif", ".tiff"))
    if is_remote and is_copied:
        raise ScanError(
            f"{request.source} would be copied to every worker: put it on a file system that all "
            "machines share, or scan it on one machine"
        )


def absolute(url: str) -> str:
    """Return the absolute form of a path, for processes with other working folders; URLs stay."""
    path, separator, inner = url.partition("::")
    return url if "://" in path else f"{Path(path).absolute()}{separator}{inner}"


def _worker_model(settings: Settings, loader: EngineLoader, cores: int) -> WorkerModel:
    values = {name: getattr(settings, name) for name in _SENT}
    # Ray shows a worker its own GPU only, whichever that is.
    values["device"] = settings.device.partition(":")[0]
    values["threads"] = settings.threads or cores
    return WorkerModel(values, loader, cores, VERSION)


def _ask_first_worker(ray: Any, model: WorkerModel, size: WorkerSize) -> FoundEngine:
    """Load the engine once on the cluster, to learn its name and check that it works."""
    task = ray.remote(find_engine).options(num_cpus=size.cpus, num_gpus=size.gpus, max_retries=1)
    if ray.available_resources().get("CPU", 0.0) < size.cpus:
        sys.stderr.write(
            f"the cluster is busy; waiting {_LONGEST_LOAD_S:g} s at most for room for a worker "
            f"({size})\n"
        )
    try:
        return ray.get(task.remote(model), timeout=_LONGEST_LOAD_S)
    except ray.exceptions.RayTaskError as error:
        raise ScanError(f"no engine on the cluster: {error.cause}") from error
    except ray.exceptions.GetTimeoutError as error:
        raise ScanError(
            f"no engine on the cluster: for {_LONGEST_LOAD_S:g} s no machine has had room for a "
            f"worker ({size}), or its engine has not been loaded"
        ) from error
    except Exception as error:  # a crash, a lost connection
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ScanError(f"no engine on the cluster: {reason}") from error


@contextlib.contextmanager
def _probe(request: ScanRequest) -> Generator[str]:
    """Write a file by which workers recognise the sink; at the end, remove it and partial files."""
    store = open_store(request.sink.rstrip("/"), patience_s=request.patience_s)
    token = secrets.token_hex(16)
    try:
        store.write(PROBE, token.encode())
    except TileError as error:
        raise ScanError(f"the sink {request.sink} cannot be used: {error}") from error
    try:
        yield token
    finally:
        # A lost store has already been reported; the next run removes the file.
        with contextlib.suppress(ScanError, OSError):
            store.remove(PROBE)
            store.remove_parts()
