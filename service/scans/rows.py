"""Rows of the journal: pending tiles, outcomes, and counts of both."""

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
    """A tile to compute.

    Attributes:
        id: Id of its row.
        position: Index in the order of names, from 0.
        target: Name of its output file, or None for a stack.
        ref: Reference by which its source reads it.
    """

    id: int
    position: int
    target: str | None
    ref: TileRef


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one tile; fields that do not apply are None.

    Attributes:
        id: Id of its row.
        status: `done` or `failed`.
        error: Reason of a failure.
        input_sha256: SHA-256 of the file, or of the pixels of one tile of a stack.
        output: Name of the output file or shard.
        output_bytes: Length of the output.
        output_sha256: SHA-256 of the output file, or of the pixels within a stack.
        milliseconds: Time for decoding, engine and encoding, without waiting.
        quality: Quality flags, see `bundle_format.bundle.FLAGS`.
        pixel_size_nm: (x, y) of the output in nm.
        metadata: All other facts, scaled, as a JSON object.
        is_shared: Whether the output, which has just been rewritten, also holds other tiles.
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
    """Counts of the tiles of a scan.

    Attributes:
        total: Tiles that the source has or had.
        done: Tiles with durable outputs.
        failed: Tiles that could not be read, computed or written.
    """

    total: int
    done: int
    failed: int

    @property
    def pending(self) -> int:
        """Tiles that are neither done nor failed."""
        return self.total - self.ended

    @property
    def ended(self) -> int:
        """Tiles that are done or failed."""
        return self.done + self.failed

    def with_outcomes(self, outcomes: Sequence[Outcome]) -> "Counts":
        """Return the counts with the outcomes of some pending tiles added."""
        done = sum(outcome.status == "done" for outcome in outcomes)
        return Counts(self.total, self.done + done, self.failed + len(outcomes) - done)
