"""Prepares a scan: opens source and sink, pins the journal, lists the tiles, checks outputs."""

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
from service.scans.klarf_copy import check_unchanged
from service.scans.klarf_results import write_results
from service.scans.klarf_source import KlarfSource
from service.scans.manifest import check_form, write_manifest
from service.scans.name_pattern import NamePattern
from service.scans.opening import StoreOpener, open_source, open_store
from service.scans.options import ModelLabel, ScanRequest
from service.scans.pins import scan_pins
from service.scans.sinks import FolderSink, Sink
from service.scans.sources import Listed, Source
from service.scans.stack_opening import open_scan_stack
from service.scans.stack_sink import StackSink
from service.scans.stores import printable
from service.scans.work_folder import WorkFolder


@dataclass(frozen=True)
class PreparedScan:
    """A scan that can run.

    Attributes:
        request: Source, sink and how tiles are read and written.
        source: The open source.
        sink: The open sink.
        journal: The pinned journal, which lists every tile.
        skipped: Number of files of the source that are not tiles, by suffix.
        lost: Number of finished outputs that are missing or changed; they are computed again.
        damage: Reason why the listing of the source is incomplete, or None.
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
        """Close source and journal."""
        self.source.close()
        self.journal.close()

    def put_manifest(self, folder: Path) -> str:
        """Write the manifest to `folder` and move it into the sink; returns its path or URL.

        The results of a KLARF file go into a copy of it, next to the manifest.

        Raises:
            StoreLostError: The manifest cannot be written or moved; it may be in `folder`.
        """
        path = write_manifest(self.journal, folder, form=self.request.manifest)
        try:
            place = self.sink.put_manifest(path)
        except TileError as error:
            raise StoreLostError(f"the manifest {error}") from error
        if isinstance(self.source, KlarfSource):
            self._put_klarf(self.source, folder)
        return place

    def _put_klarf(self, source: KlarfSource, folder: Path) -> None:
        path = write_results(source, self.journal, folder)
        try:
            self.sink.put_manifest(path)
        except TileError as error:
            raise StoreLostError(f"the copy of {source.name} {error}") from error
        finally:
            path.unlink(missing_ok=True)

    def try_manifest(self, folder: Path, *, names_folder: bool = True) -> str:
        """Write the manifest if that is possible.

        Args:
            folder: See `put_manifest`.
            names_folder: Whether a manifest that stays in the folder counts as written; clients
                of the service have no access to it.

        Returns:
            Its place, or the reason why it was not written.
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
    """Open a scan and find its pending tiles.

    Args:
        request: Source, sink and how tiles are read and written.
        model: Model that runs.
        work: Work folder, held by this process.
        verify: Whether every finished output is read and its hash compared.
        overwrite: Whether a stack that this scan has not written is replaced.
        open_store: Function that opens the stores of source and sink.
        on_listed: Callback for every listed item; an exception ends the listing.

    Raises:
        SourceMissingError: The source does not exist, or its tiles are gone.
        ScanMismatchError: The journal in the folder belongs to another scan, or a KLARF file has
            changed since then.
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
    if isinstance(source, KlarfSource):
        check_unchanged(source, work.klarf_path)
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
    items = _tiles_of(source, sink, skipped, damage, on_listed)
    num_listed = journal.list_tiles(_matched(items, request, source.notes))
    total = journal.counts().total
    if not total:
        raise ScanError(damage[0] if damage else no_tiles(request.source, skipped))
    journal.retry_failed()
    lost = 0
    if journal.counts().done and (not isinstance(sink, StackSink) or sink.check(journal)):
        lost = _check_outputs(journal, sink, verify=verify)
    if not num_listed and journal.counts().pending:
        # Its file system may not be mounted: otherwise, each tile would fail by itself.
        raise SourceMissingError(f"the source {request.source} is empty; it held {total} tiles")
    return PreparedScan(
        request, source, sink, journal, skipped, lost, damage[0] if damage else None
    )


def _check_outputs(journal: Journal, sink: Sink, *, verify: bool) -> int:
    """Make tiles pending whose outputs are missing or changed; returns their number."""
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
    """Return the name of a tile's own output file, or None for a stack."""
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
        damage.append(str(error))  # the listed tiles are computed, and the scan reports the damage


def _matched(
    items: Iterator[tuple[Listed, str | None]], request: ScanRequest, notes: list[str]
) -> Iterator[tuple[Listed, str | None]]:
    """Note how many names do not match the request's pattern; they are computed without facts."""
    if request.name_pattern is None:
        yield from items
        return
    names = NamePattern(request.name_pattern)
    num_tiles = num_others = 0
    first = ""
    for listed, target in items:
        yield listed, target
        if listed.is_tile:
            num_tiles += 1
            if names.facts(listed.stem) is None:
                first = first or listed.name
                num_others += 1
    if num_others:
        notes.append(
            f"the names of {num_others} of {num_tiles} tiles do not match {names.pattern}, "
            f"such as {printable(first)}"
        )


def count_skipped(listed: Listed, skipped: Counter[str]) -> None:
    """Count an item that is not a tile by its suffix."""
    if not listed.is_sidecar:
        skipped[listed.suffix or "without suffix"] += 1
    elif listed.size_bytes > MAX_SIDECAR_BYTES:
        skipped[f".json above {MAX_SIDECAR_BYTES} bytes"] += 1


def no_tiles(source: str, skipped: Counter[str]) -> str:
    """Return the message for a source without tiles; it lists the suffixes of other files."""
    found = ", ".join(f"{count} x {suffix}" for suffix, count in skipped.most_common())
    return f"the source {source} holds no tiles{f'; it has {found}' if found else ''}"
