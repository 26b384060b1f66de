"""The worker on the machines of a cluster: it reads tiles, computes them and writes the results.

Worker and starting process exchange only rows: the worker itself reads images from the source and
writes them to the sink. The class does not depend on Ray, which makes actors of it.
"""

import asyncio
import hashlib
import importlib.metadata
import os
import socket
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from pydantic import ValidationError

from bundle_format.bundle import BundleError
from engines.protocol import EngineError
from semsr.cluster.tables import outcome_table, tiles_of
from semsr.engine_room import EngineRoom, model_label
from service.ground.memory import keep_freed_memory
from service.hosting.loading import EngineLoader, LoadedModel, load_model
from service.scans.errors import ScanError, TileError
from service.scans.local_copy import temporary_spool
from service.scans.opening import open_source, open_store
from service.scans.options import ScanOptions, ScanRequest
from service.scans.rows import Counts, Outcome, PendingTile
from service.scans.scan import Scan
from service.scans.sinks import FolderSink, Sink
from service.scans.sources import Source, TileRef
from service.scans.stack_opening import open_stack_sink
from service.scans.work_folder import WorkFolder
from service.settings import Settings

# Hidden, and cleaned up like unfinished files if its scan cannot remove it.
PROBE = ".probe.semsr-part"
VERSION = importlib.metadata.version("semsr")
_EXIT_HUNG = 70
# Never used: stacks that need a local folder are refused before.
_NO_FOLDER = Path("/nonexistent")
_SHARED = (
    "source and sink must be the same on every machine: a shared file system or an object store"
)


@dataclass(frozen=True)
class WorkerModel:
    """Engine and its settings, the same on every worker.

    Attributes:
        settings: Settings of the starting process that an engine needs.
        loader: Function that loads an engine by name.
        cores: Cores that a worker may use.
        version: Version of semsr; see `VERSION`.
    """

    settings: dict[str, Any]
    loader: EngineLoader
    cores: int
    version: str


@dataclass(frozen=True)
class Sample:
    """A tile by which a worker's machine checks that it sees the same source.

    Attributes:
        ref: The tile.
        sha256: SHA-256 of its bytes.
    """

    ref: TileRef
    sha256: str


@dataclass(frozen=True)
class WorkerJob:
    """Description of a worker's work, sent to the cluster.

    Attributes:
        request: Source and sink with absolute paths, and how tiles are read and written.
        model: Engine and its settings.
        digest: Digest of the bundle.
        stack_tile: (H, W) of a stack's tiles, or None where the sink is a folder.
        token: Content of the sink's file `PROBE`.
        sample: A tile of the source, or None where it cannot be read.
    """

    request: ScanRequest
    model: WorkerModel
    digest: str
    stack_tile: tuple[int, int] | None
    token: str
    sample: Sample | None


@dataclass(frozen=True)
class FoundEngine:
    """The engine that the first worker loaded.

    Attributes:
        name: The engine, never `auto`.
        precision: Precision that it computes in.
        max_batch_size: Largest batch.
        digest: Digest of the bundle on that machine.
    """

    name: str
    precision: str
    max_batch_size: int
    digest: str


def take_sample(source: Source, ref: TileRef) -> Sample | None:
    """Read a tile; None where it cannot be read.

    Raises:
        StoreLostError: The source does not answer.
    """
    try:
        return Sample(ref, hashlib.sha256(source.read(ref).body).hexdigest())
    except TileError:
        return None


def find_engine(model: WorkerModel) -> FoundEngine:
    """Load, check and warm up the engine on the machine where this runs, and describe it.

    Raises:
        ScanError: It cannot be loaded; the message names the machine.
    """
    loaded = _load(model)
    try:
        return FoundEngine(
            loaded.engine.name,
            loaded.engine.precision,
            loaded.max_batch_size,
            loaded.bundle.digest,
        )
    finally:
        loaded.engine.close()


class ScanWorker:
    """An engine with its source and sink; called with tables of tiles from several threads."""

    def __init__(self, job: WorkerJob) -> None:
        """Load the engine and open source and sink.

        Raises:
            ScanError: This machine lacks something; the message names the machine.
        """
        # Before the first thread of semsr: every tile allocates its answer.
        keep_freed_memory()
        self._request = job.request
        try:
            self._check_sink(job)
            self._source = open_source(
                job.request.source,
                spool=temporary_spool(),
                patience_s=job.request.patience_s,
            )
            self._check_source(job)
        except ScanError as error:
            raise ScanError(f"{socket.gethostname()}: {error}") from error
        self._model = _load(job.model)
        if self._model.bundle.digest != job.digest:
            raise ScanError(
                f"{socket.gethostname()}: the bundle {self._model.bundle.path} differs: "
                f"digest {self._model.bundle.digest}, expected {job.digest}"
            )
        self._sink = self._open_sink(job)
        self._cores = job.model.cores
        self._loop = uvloop.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="scan", daemon=True).start()
        starting = self._start(_settings(job.model))
        self._room = asyncio.run_coroutine_threadsafe(starting, self._loop).result()

    def __call__(self, table: Any) -> Any:
        """Compute tiles, each durable before its row is returned.

        Args:
            table: Tiles, see `tables.tile_table`.

        Returns:
            Rows, see `tables.Returned`. Tiles without a row were not finished.
        """
        tiles = tiles_of(table)
        return asyncio.run_coroutine_threadsafe(self._compute(tiles), self._loop).result()

    async def _compute(self, tiles: Sequence[PendingTile]) -> Any:
        block = _Block(tiles)
        options = ScanOptions.of(
            self._request,
            model_label(self._model),
            engine_slots=self._model.engine.slots,
            cores=self._cores,
            io_at_once=max(self._source.io_at_once, self._sink.io_at_once),
        )
        scan = Scan(self._source, self._sink, block, self._room, options)
        try:
            await scan.run()
        except ScanError as error:
            return outcome_table(block.outcomes, ended_by=f"{socket.gethostname()}: {error}")
        except Exception as error:
            # A fault of the code or the machine: it is reported, and the tiles are retried.
            traceback.print_exc()  # for Ray's logs
            fault = f"{socket.gethostname()}: {type(error).__name__}: {error}"
            done = {outcome.id for outcome in block.outcomes}
            faults = {tile.id: fault for tile in tiles if tile.id not in done}
            return outcome_table(block.outcomes, faults=faults)
        return outcome_table(block.outcomes)

    async def _start(self, settings: Settings) -> EngineRoom:
        room = EngineRoom(self._model, settings)
        self._watch = asyncio.get_running_loop().create_task(room.watch())
        # A call that hangs cannot be cancelled. The cluster sees the process end and starts
        # another; tiles in flight are retried or, if they are the cause, recorded as failed.
        self._watch.add_done_callback(lambda _: os._exit(_EXIT_HUNG))
        return room

    def _open_sink(self, job: WorkerJob) -> Sink:
        if job.stack_tile is None:
            return FolderSink(
                open_store(job.request.sink, patience_s=job.request.patience_s),
                scale=self._model.bundle.manifest.scale,
                answer_type=job.request.answer_type,
            )
        # The starting process writes the stack's attributes when it finishes it.
        work = WorkFolder(_NO_FOLDER)
        return open_stack_sink(job.request, job.stack_tile, work, attributes={})[0]

    @staticmethod
    def _check_sink(job: WorkerJob) -> None:
        """Check that this machine sees the starting process's sink."""
        store = open_store(job.request.sink, patience_s=job.request.patience_s)
        try:
            found = store.read(PROBE).decode("ascii", "replace")
        except TileError as error:
            found = str(error)
        if found != job.token:
            raise ScanError(
                f"{job.request.sink} is not the folder that the scan was started with, or another "
                f"scan has been started into it; {_SHARED} ({found})"
            )

    def _check_source(self, job: WorkerJob) -> None:
        """Check that this machine sees the source that the starting process listed."""
        if job.sample is not None and take_sample(self._source, job.sample.ref) != job.sample:
            raise ScanError(
                f"{job.request.source} is not the source that the scan was started with: "
                f"{job.sample.ref.name} is missing or differs; {_SHARED}"
            )


class _Block:
    """The tiles of one table and their outcomes, in place of a journal."""

    def __init__(self, tiles: Sequence[PendingTile]) -> None:
        self._tiles = tiles
        self.outcomes: list[Outcome] = []

    def pending(self) -> Iterator[PendingTile]:
        yield from self._tiles

    def counts(self) -> Counts:
        return Counts(len(self._tiles), 0, 0)

    def record(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes += outcomes


def _load(model: WorkerModel) -> LoadedModel:
    if model.version != VERSION:
        raise ScanError(f"{socket.gethostname()}: semsr {VERSION}; expected {model.version}")
    settings = _settings(model)
    try:
        return load_model(settings.bundle, settings, model.loader)
    except (BundleError, EngineError) as error:
        raise ScanError(f"{socket.gethostname()}: {error}") from error


def _settings(model: WorkerModel) -> Settings:
    """Return this machine's settings, overridden by those of the starting process."""
    try:
        return Settings(**model.settings)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ScanError(f"{socket.gethostname()}: wrong settings: {found}") from error
