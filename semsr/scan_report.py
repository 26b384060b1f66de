"""How a run of `semsr scan` ended, for people and for machines."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from service.scans.rows import Counts


@dataclass(frozen=True)
class ScanReport:
    """How a run of a scan ended.

    Attributes:
        counts: Of the whole scan, earlier runs included.
        computed: Tiles that this run computed or found bad.
        lost: Outputs of earlier runs that were not there any more.
        skipped: Files of the source that are no tiles, by suffix.
        failures: Name and reason of the first tiles that failed.
        seconds: From the first tile to the last.
        manifest: Where it lies.
        ended_by: What ended the run before its end, or None.
        was_stopped: Whether that was a signal.
    """

    counts: Counts
    computed: int
    lost: int
    skipped: Counter[str]
    failures: list[tuple[str, str]]
    seconds: float
    manifest: str
    ended_by: str | None
    was_stopped: bool

    @property
    def is_complete(self) -> bool:
        """Whether every tile is done."""
        return self.counts.done == self.counts.total and self.ended_by is None

    def row(self) -> dict[str, Any]:
        """Return it as one row for machines."""
        return {
            "total": self.counts.total,
            "done": self.counts.done,
            "failed": self.counts.failed,
            "pending": self.counts.pending,
            "computed": self.computed,
            "lost": self.lost,
            "skipped": dict(self.skipped),
            "failures": [{"source": name, "error": error} for name, error in self.failures],
            "seconds": round(self.seconds, 3),
            "tiles_per_s": round(self.computed / self.seconds, 3) if self.seconds else None,
            "manifest": self.manifest,
            "ended_by": self.ended_by,
        }

    def text(self) -> str:
        """Say it to people, and what to do where something is missing."""
        counts = self.counts
        lines = [
            f"{counts.total} tiles: {counts.done} done, {counts.failed} failed, "
            f"{counts.pending} pending",
            f"this run: {self.computed} tiles in {self.seconds:.1f} s",
            f"manifest: {self.manifest}",
        ]
        if self.lost:
            lines.append(f"{self.lost} outputs of earlier runs were missing and were done anew")
        for suffix, count in self.skipped.most_common():
            lines.append(f"no tiles, left out: {count} x {suffix}")
        for name, error in self.failures:
            lines.append(f"failed: {name}: {error}")
        if counts.failed > len(self.failures):
            lines.append(f"… and {counts.failed - len(self.failures)} more, see the manifest")
        if self.ended_by is not None:
            lines.append(f"ended before its end: {self.ended_by}")
        if not self.is_complete:
            lines.append(
                f"{counts.total - counts.done} tiles are missing; run the same command again"
            )
        return "\n".join(lines)
