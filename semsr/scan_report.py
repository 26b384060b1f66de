"""How a run of `semsr scan` ended, for people and for machines."""

from collections import Counter
from dataclasses import dataclass, field
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
        damage: What is missing of the source itself, or None.
        notes: What people should know of the source though no tile fails by it.
        seconds: From the first tile to the last.
        manifest: Where it lies.
        ended_by: What stopped the run early, or None.
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
    damage: str | None = None
    notes: list[str] = field(default_factory=list[str])

    @property
    def is_complete(self) -> bool:
        """Whether every tile of the source is done."""
        is_whole = self.ended_by is None and self.damage is None
        return is_whole and self.counts.done == self.counts.total

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
            "damage": self.damage,
            "notes": self.notes,
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
            lines.append(f"stopped early: {self.ended_by}")
        lines += [f"note: {note}" for note in self.notes]
        if self.damage is not None:
            lines.append(f"the source is damaged: {self.damage}")
            lines.append("what it lacks is missing; repair it and run the same command again")
        elif not self.is_complete:
            lines.append(
                f"{counts.total - counts.done} tiles are missing; run the same command again"
            )
        return "\n".join(lines)
