"""`semsr scan --dry-run`: lists and counts tiles; writes nothing to the work folder or sink."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundle_format.bundle import load_bundle
from semsr.progress import progress
from semsr.recorded_facts import RecordedFacts, recorded_lines
from service.scans.checks import check_request
from service.scans.errors import ScanError, SourceDamagedError
from service.scans.journal import Journal
from service.scans.journal_file import count_done
from service.scans.opening import open_source
from service.scans.options import ScanRequest
from service.scans.preparation import count_skipped, mirrored_name, no_tiles
from service.scans.sources import Listed
from service.settings import Settings


def dry_run(request: ScanRequest, *, settings: Settings, work: Path) -> dict[str, Any]:
    """List a source and report what a scan would do, without writing.

    Raises:
        ScanError: The scan could not start.
        bundle_format.bundle.BundleError: The bundle cannot be read.
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
        recorded = RecordedFacts(request, source)

        def tiles() -> Iterator[tuple[Listed, str | None]]:
            nonlocal size_bytes, damage
            try:
                for listed in source.listing():
                    steps.update()
                    recorded.add(listed)
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
    return {
        "source": request.source,
        "sink": request.sink,
        "tiles": total,
        "input_bytes": size_bytes,
        "done": count_done(work / "journal.sqlite"),
        "skipped": dict(skipped),
        "damage": damage,
        "notes": source.notes,
        "model": manifest.name,
        "scale": manifest.scale,
        "recorded": recorded.row(),
    }


def dry_run_text(row: dict[str, Any]) -> str:
    """Return the report of `dry_run` as lines of text."""
    lines = [f"{name}: {value}" for name, value in row.items() if name != "recorded"]
    if row["recorded"] is not None:
        lines += recorded_lines(row["recorded"])
    return "\n".join(lines)
