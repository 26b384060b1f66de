"""From what was asked for to a scan that can run: opened, pinned, listed, checked."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from service.scans.checks import check_apart, check_outside
from service.scans.errors import (
    ScanError,
    SourceDamagedError,
    SourceMissingError,
    StoreLostError,
    TileError,
)
from service.scans.facts import MAX_SIDECAR_BYTES
from service.scans.journal import Journal
from service.scans.manifest import check_form, write_manifest
from service.scans.opening import StoreOpener, open_source, open_store
from service.scans.options import ModelLabel, ScanRequest
from service.scans.pins import scan_pins
from service.scans.sinks import FolderSink, Sink
from service.scans.sources import Listed, Source
from service.scans.stack_opening import open_scan_stack
from service.scans.stack_sink import StackSink
from service.scans.work_folder import WorkFolder


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

    @property
    def io_at_once(self) -> int:
        """Parallel transfers of the source or the sink, whichever has more."""
        return max(self.source.io_at_once, self.sink.io_at_once)

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

    def try_manifest(self, folder: Path, *, names_folder: bool = True) -> str:
        """Write the manifest if that is possible.

        Args:
            folder: See `put_manifest`.
            names_folder: Whether a manifest that stays in the folder is named; clients of the
                service do not see it.

        Returns:
            Where it lies, or why it was not written.
        """
        try:
            return self.put_manifest(folder)
        except ScanError as error:
            path = folder / f"manifest.{self.request.manifest}"
            return str(path) if names_folder and path.exists() else f"not written: {error}"


def prepare(
    request: ScanRequest,
    model: ModelLabel,
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
    journal.pin(scan_pins(request, model))
    if request.is_stack:
        sink: Sink = open_scan_stack(
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
