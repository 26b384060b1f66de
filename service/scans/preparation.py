"""From what was asked for to a scan that can run: opened, pinned, listed, checked."""

import contextlib
import heapq
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from bundle_format.bundle import Bundle
from service.ground.errors import ServiceError
from service.images import codec
from service.scans.array_source import RAW
from service.scans.checks import check_apart, check_new_stack, check_outside
from service.scans.errors import (
    ScanError,
    SourceDamagedError,
    SourceMissingError,
    StoreLostError,
    TileError,
)
from service.scans.facts import MAX_SIDECAR_BYTES
from service.scans.journal import Journal
from service.scans.local_store import LocalStore
from service.scans.manifest import check_form, write_manifest
from service.scans.opening import StoreOpener, open_source, open_store
from service.scans.options import ScanRequest
from service.scans.sinks import FolderSink, Sink
from service.scans.sources import Listed, Source, TileRef
from service.scans.stack_formats import stack_format
from service.scans.stack_sink import StackSink, TileFormat
from service.scans.stores import Store
from service.scans.work_folder import WorkFolder

# Tiles that are looked at to learn the size of a stack's tiles.
_MOST_PROBED = 100
_MAX_PIXELS = 1 << 28
# The journal's fact that holds the output shape of a stack's tiles.
STACK_TILE = "stack_tile"


class RunningEngine(Protocol):
    """What a scan is pinned to of an engine, here or on another machine."""

    @property
    def name(self) -> str:
        """Of the engine."""
        ...

    @property
    def precision(self) -> str:
        """That it computes in."""
        ...


class ScanModel(Protocol):
    """What a scan is pinned to; a `service.hosting.loading.LoadedModel` is one."""

    @property
    def name(self) -> str:
        """Of the model, for the manifest."""
        ...

    @property
    def bundle(self) -> Bundle:
        """The verified bundle."""
        ...

    @property
    def engine(self) -> RunningEngine:
        """The engine that computes."""
        ...

    @property
    def max_batch_size(self) -> int:
        """Largest batch."""
        ...


@dataclass(frozen=True)
class EngineLabel:
    """An engine that runs elsewhere: in the service, or on other machines."""

    name: str
    precision: str


@dataclass(frozen=True)
class LabelledModel:
    """A `ScanModel` whose engine runs elsewhere."""

    name: str
    bundle: Bundle
    engine: EngineLabel
    max_batch_size: int


@dataclass(frozen=True)
class PreparedScan:
    """A scan that can run.

    Attributes:
        request: What was asked for.
        source: Opened.
        sink: Opened.
        journal: Pinned; lists every tile.
        skipped: Files of the source that are no tiles, by suffix.
        lost: Outputs that were done and are not there any more; they are done anew.
        damage: Why the source has not been listed to its end, or None: tiles are missing.
    """

    request: ScanRequest
    source: Source
    sink: Sink
    journal: Journal
    skipped: Counter[str]
    lost: int
    damage: str | None = None

    def close(self) -> None:
        """Close what is open."""
        self.source.close()
        self.journal.close()

    def put_manifest(self, folder: Path) -> str:
        """Write the manifest into the sink, by way of `folder`; returns where it lies.

        Raises:
            StoreLostError: It cannot be written; it may lie in `folder`.
        """
        path = write_manifest(self.journal, folder, form=self.request.manifest)
        try:
            return self.sink.put_manifest(path)
        except TileError as error:
            raise StoreLostError(f"the manifest {error}") from error

    def try_manifest(self, folder: Path) -> str:
        """Write the manifest where that can be.

        Returns:
            Where it lies, or why it lies nowhere.
        """
        try:
            return self.put_manifest(folder)
        except ScanError as error:
            path = folder / f"manifest.{self.request.manifest}"
            return str(path) if path.exists() else f"not written: {error}"


def work_folder(sink: str) -> Path:
    """Return where a scan into a sink keeps its journal unless told otherwise.

    Beside a local sink; for an object store in the user's state folder, under a name of its own.

    Raises:
        ScanError: The sink is the root of all folders.
    """
    scheme, separator, rest = sink.rstrip("/").partition("://")
    if not separator or scheme == "file":
        path = Path(rest or scheme or "/")
        if path.name in {"", ".."}:
            path = path.resolve()  # of `.` and `..` the path alone has no name
        if not path.name:
            raise ScanError(
                f"the sink {sink} has no folder beside it for the work folder: name one"
            )
        return path.with_name(f"{path.name}.scan")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "semsr" / "scans" / sha256(sink.encode()).hexdigest()[:16]


def prepare(
    request: ScanRequest,
    model: ScanModel,
    work: WorkFolder,
    *,
    verify: bool = False,
    overwrite: bool = False,
    open_store: StoreOpener = open_store,
    on_listed: Callable[[], None] = lambda: None,
) -> PreparedScan:
    """Open a scan and find out what is to be done.

    Args:
        request: What was asked for.
        model: What runs it.
        work: Its folder, held by this process.
        verify: Read every output that is done and compare its hash.
        overwrite: Replace a stack that this scan has not written.
        open_store: Opens the stores of source and sink.
        on_listed: Called for everything that the source lists; what it raises ends the listing.

    Raises:
        SourceMissingError: There is no such source, or its tiles are gone.
        ScanMismatchError: The folder holds the journal of another scan.
        ScanError: The scan cannot run.
    """
    source = open_source(
        request.source, spool=work.spool, patience_s=request.patience_s, open_store=open_store
    )
    check_apart(request.source, sink=request.sink)
    check_apart(request.source, work_folder=str(work.path))
    check_outside(str(work.path), source=request.source, sink=request.sink)
    check_form(request.manifest)
    journal = Journal(work.journal_path)
    journal.pin(_pins(request, model))
    if request.is_stack:
        sink: Sink = _open_stack(
            request, model, source, journal, work, overwrite=overwrite, open_store=open_store
        )
    else:
        store = open_store(request.sink, patience_s=request.patience_s)
        store.remove_parts()
        scale = model.bundle.manifest.scale
        sink = FolderSink(store, scale=scale, answer_type=request.answer_type)
    skipped: Counter[str] = Counter()
    damage: list[str] = []
    num_listed = journal.list_tiles(_tiles_of(source, sink, skipped, damage, on_listed))
    total = journal.counts().total
    if not total:
        raise ScanError(damage[0] if damage else no_tiles(request.source, skipped))
    journal.retry_failed()
    lost = 0
    if journal.counts().done and (not isinstance(sink, StackSink) or sink.check(journal)):
        lost = _check_outputs(journal, sink, verify=verify)
    if not num_listed and journal.counts().pending:
        # As where its file system is not mounted: each tile would fail for itself.
        raise SourceMissingError(f"the source {request.source} is empty; it held {total} tiles")
    return PreparedScan(
        request, source, sink, journal, skipped, lost, damage[0] if damage else None
    )


def _check_outputs(journal: Journal, sink: Sink, *, verify: bool) -> int:
    """Make pending what is not there as it was written; returns how many tiles that are."""
    lost = journal.check_outputs(sink.find_outputs())
    if verify:
        changed = [
            position
            for position, output, digest in journal.outputs()
            if sink.digest(output, position) != digest
        ]
        for position in changed:
            journal.forget(position)
        lost += len(changed)
    return lost


def mirrored_name(request: ScanRequest, listed: Listed, scale: int) -> str | None:
    """Return the name of a tile's own output file, or None where it goes into a stack."""
    if request.is_stack:
        return None
    return FolderSink.name(listed, scale=scale, answer_type=request.answer_type)


def pinned_engine(work: WorkFolder) -> dict[str, str]:
    """Return engine and precision that a scan began with, as settings; empty for a new one."""
    if not work.journal_path.exists():
        return {}
    journal = Journal(work.journal_path)
    try:
        pins = {name: journal.fact(name) for name in ("engine", "precision")}
    finally:
        journal.close()
    return {name: value for name, value in pins.items() if value is not None}


def owns_stack(work: WorkFolder, sink: str) -> bool:
    """Return whether the scan of a work folder has begun to write a stack."""
    if not work.journal_path.exists():
        return False
    journal = Journal(work.journal_path)
    try:
        pins = journal.pins()
    finally:
        journal.close()
    return pins.get("sink") == sink and STACK_TILE in pins


def _pins(request: ScanRequest, model: ScanModel) -> dict[str, Any]:
    size = request.pixel_size
    return {
        "source": request.source,
        "sink": request.sink,
        "model": model.name,
        "model_version": model.bundle.version,
        "bundle_digest": model.bundle.digest,
        "engine": model.engine.name,
        "precision": model.engine.precision,
        "max_batch_size": model.max_batch_size,
        "window": None if request.window is None else list(request.window),
        "answer_dtype": request.answer_dtype,
        "answer_type": request.answer_type,
        "pixel_size_nm": None if size is None else [size.x_nm, size.y_nm],
    }


def _tiles_of(
    source: Source,
    sink: Sink,
    skipped: Counter[str],
    damage: list[str],
    on_listed: Callable[[], None],
) -> Iterator[tuple[Listed, str | None]]:
    try:
        for listed in source.listing():
            on_listed()
            if listed.is_tile:
                yield listed, sink.target(listed)
                continue
            if listed.is_sidecar:
                yield listed, None
            count_skipped(listed, skipped)
    except SourceDamagedError as error:
        damage.append(str(error))  # what was found is computed, and the scan says what is missing


def count_skipped(listed: Listed, skipped: Counter[str]) -> None:
    """Count what a source lists and a scan leaves out."""
    if not listed.is_sidecar:
        skipped[listed.suffix or "without suffix"] += 1
    elif listed.size_bytes > MAX_SIDECAR_BYTES:
        skipped[f".json above {MAX_SIDECAR_BYTES} bytes"] += 1


def no_tiles(source: str, skipped: Counter[str]) -> str:
    """Say that a source holds no tiles, and what it holds instead."""
    found = ", ".join(f"{count} x {suffix}" for suffix, count in skipped.most_common())
    return f"the source {source} holds no tiles{f'; it has {found}' if found else ''}"


def _open_stack(
    request: ScanRequest,
    model: ScanModel,
    source: Source,
    journal: Journal,
    work: WorkFolder,
    *,
    overwrite: bool,
    open_store: StoreOpener,
) -> StackSink:
    pinned = journal.fact(STACK_TILE)
    is_new = pinned is None
    if is_new:
        if not overwrite:
            check_new_stack(request, open_store)
        pinned = _probe(source, request.source, model.bundle.manifest.scale)
    attributes: dict[str, Any] = {
        "scale": model.bundle.manifest.scale,
        "model": model.name,
        "model_version": model.bundle.version,
        "engine": model.engine.name,
        "precision": model.engine.precision,
    }
    sink, shards = open_stack_sink(
        request, pinned, work, attributes=attributes, open_store=open_store
    )
    shards.remove_parts()
    if is_new:
        # Shards of another stack would be read as this one's. From the noted shape on, what is
        # there is this scan's own.
        sink.clear()
        journal.set_fact(STACK_TILE, pinned)
    return sink


def open_stack_sink(
    request: ScanRequest,
    shape: Sequence[int],
    work: WorkFolder,
    *,
    attributes: dict[str, Any],
    open_store: StoreOpener = open_store,
) -> tuple[StackSink, Store]:
    """Open a stack as a sink.

    Args:
        request: What was asked for.
        shape: (H, W) of every tile of it.
        work: Where the shards of a stack lie that is assembled from them.
        attributes: What the stack says of itself.
        open_store: Opens the stores of sink and shards.

    Returns:
        The sink, and the store of its shards.

    Raises:
        ScanError: There can be no such stack.
    """
    url = request.sink.rstrip("/")
    folder, _, name = url.rpartition("/")
    store = open_store(
        folder or ("/" if url.startswith("/") else "."), patience_s=request.patience_s
    )
    tile = TileFormat((shape[0], shape[1]), request.answer_dtype)
    stack = stack_format(store, name, tile, work=work.path)
    shards: Store = LocalStore(work.shards)
    if stack.keeps_shards:
        shards = open_store(url, patience_s=request.patience_s)
    return StackSink(url, store, shards, stack, tile, attributes=attributes), shards


def _probe(source: Source, url: str, scale: int) -> tuple[int, int]:
    """Return the output shape of the first tile, in the order of names, that can be read."""

    def tiles() -> Iterator[Listed]:
        with contextlib.suppress(SourceDamagedError):  # the listing of the scan says it
            yield from (item for item in source.listing() if item.is_tile)

    for item in heapq.nsmallest(_MOST_PROBED, tiles(), key=lambda item: item.name):
        try:
            image = source.read(TileRef(item.name, item.stem, item.place, item.size_bytes))
            if image.media_type == RAW and image.shape is not None:
                shape = image.shape
            else:
                pixels = codec.decode(
                    image.body, image.media_type, shape=None, dtype=None, max_pixels=_MAX_PIXELS
                ).pixels
                shape = (pixels.shape[0], pixels.shape[1])
        except (TileError, ServiceError):
            continue
        return scale * shape[0], scale * shape[1]
    raise ScanError(f"none of the first {_MOST_PROBED} tiles of {url} can be read")
