"""The report of a run of `semsr scan`, for people and for machines."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from service.scans.rows import Counts


@dataclass(frozen=True)
class ScanReport:
    """Result of a run of a scan.

    Attributes:
        model: Name and version of the model.
        counts: Counts of the whole scan, earlier runs included.
        computed: Number of tiles that this run computed or found bad.
        lost: Number of earlier runs' outputs that were missing.
        skipped: Number of the source's files that are not tiles, by suffix.
        failures: Name and reason of the first tiles that failed.
        damage: Part of the source that is missing, or None.
        notes: Hints about the source that fail no tile.
        seconds: Time from the first tile to the last.
        manifest: Path or URL of the manifest.
        ended_by: Reason for which the run ended early, or None.
        was_stopped: Whether a signal ended it.
    """

    model: str
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
        """Return the report as one row for machines."""
        return {
            "model": self.model,
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
        """Return the report as text for people, with advice if tiles are missing."""
        counts = self.counts
        lines = [
            f"{counts.total} tiles: {counts.done} done, {counts.failed} failed, "
            f"{counts.pending} pending",
            f"this run: {self.computed} tiles in {self.seconds:.1f} s",
            f"model: {self.model}",
            f"manifest: {self.manifest}",
        ]
        if self.lost:
            lines.append(f"{self.lost} missing outputs of earlier runs were computed again")
        for suffix, count in self.skipped.most_common():
            lines.append(f"skipped, not tiles: {count} x {suffix}")
        for name, error in self.failures:
            lines.append(f"failed: {name}: {error}")
        if counts.failed > len(self.failures):
            lines.append(f"… and {counts.failed - len(self.failures)} more, see the manifest")
        if self.ended_by is not None:
            lines.append(f"stopped early: {self.ended_by}")
        lines += [f"note: {note}" for note in self.notes]
        if self.damage is not None:
            lines.append(f"the source is damaged: {self.damage}")
            lines.append("repair it and run the same command again, which adds its missing tiles")
        elif not self.is_complete:
            lines.append(
                f"{counts.total - counts.done} tiles are missing; run the same command again"
            )
        return "\n".join(lines)
