"""Rows of the journal: a tile that is to be computed, what became of it, and how many there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bundle_format.bundle import FLAGS
from service.scans.sources import TileRef

OUTCOME_FIELDS = (
    "status", "error", "input_sha256", "output", "output_bytes", "output_sha256", "milliseconds",
    *FLAGS,
    "pixel_size_x_nm", "pixel_size_y_nm", "metadata",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PendingTile:
    """A tile that is to be computed.

    Attributes:
        id: Its row.
        position: Its place in the order of names, from 0.
        target: The name of its output, or None where it goes into a stack.
        ref: What its source needs to read it.
    """

    id: int
    position: int
    target: str | None
    ref: TileRef


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one tile; None where it does not apply.

    Attributes:
        id: Its row.
        status: `done` or `failed`.
        error: Why it failed.
        input_sha256: Of the file, or of the pixels of one tile of a stack.
        output: Name of what it was written to.
        output_bytes: Length of that.
        output_sha256: Of the output file, or of the pixels within a stack.
        milliseconds: Spent on it in decoding, engine and encoding; without waiting.
        quality: Its flags, as the journal's columns have them.
        pixel_size_nm: (x, y) of the output.
        metadata: Everything else that is known of it, scaled, as a JSON object.
        is_shared: Whether other tiles lie in the same output, which has just been written anew.
    """

    id: int
    status: str
    error: str | None = None
    input_sha256: str | None = None
    output: str | None = None
    output_bytes: int | None = None
    output_sha256: str | None = None
    milliseconds: float | None = None
    quality: tuple[float | None, ...] | None = None
    pixel_size_nm: tuple[float, float] | None = None
    metadata: str | None = None
    is_shared: bool = False

    def values(self) -> tuple[Any, ...]:
        """Return the columns of `OUTCOME_FIELDS`."""
        return (
            self.status, self.error, self.input_sha256, self.output, self.output_bytes,
            self.output_sha256, self.milliseconds, *(self.quality or (None,) * len(FLAGS)),
            *(self.pixel_size_nm or (None, None)), self.metadata,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a scan is.

    Attributes:
        total: Tiles that the source has or had.
        done: Their outputs are durable.
        failed: Could not be read, computed or written.
    """

    total: int
    done: int
    failed: int

    @property
    def pending(self) -> int:
        """Tiles that are still to be computed."""
        return self.total - self.ended

    @property
    def ended(self) -> int:
        """Tiles that are done or failed."""
        return self.done + self.failed

    def with_outcomes(self, outcomes: Sequence[Outcome]) -> "Counts":
        """Return the counts after outcomes of pending tiles."""
        done = sum(outcome.status == "done" for outcome in outcomes)
        return Counts(self.total, self.done + done, self.failed + len(outcomes) - done)
