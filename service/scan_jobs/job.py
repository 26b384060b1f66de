"""A scan in the list of scans: its state and its progress."""

import enum
import json
from dataclasses import dataclass, field
from typing import Any

from service.scans.rows import Counts


class State(enum.StrEnum):
    """State of a scan."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = frozenset({State.QUEUED, State.RUNNING, State.PAUSED})
"""States of scans that have not ended."""
RESUMABLE = frozenset({State.PAUSED, State.INCOMPLETE, State.FAILED})
"""States of scans that can be resumed."""

_FIRST_SETBACK_S = 30.0
_LONGEST_SETBACK_S = 600.0


@dataclass(frozen=True)
class Progress:
    """Progress of a scan, as its owner last reported.

    Attributes:
        counts: Counts of its tiles; None until the source has been listed.
        tiles_per_s: Tiles per second over the last minutes, or None if unknown.
        failures: Name and reason of the first tiles that failed.
        setbacks: Number of consecutive runs that made no progress before a store was lost or
            their process died.
        result: Result of the last run; see `progress.RunProgress.final`.
    """

    counts: Counts | None = None
    tiles_per_s: float | None = None
    failures: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    setbacks: int = 0
    result: dict[str, Any] | None = None

    def to_text(self) -> str:
        """Return the progress as text for a row of the table."""
        counts = self.counts
        return json.dumps(
            {
                "counts": None if counts is None else [counts.total, counts.done, counts.failed],
                "tiles_per_s": self.tiles_per_s,
                "failures": self.failures,
                "setbacks": self.setbacks,
                "result": self.result,
            }
        )

    @classmethod
    def from_text(cls, text: str) -> "Progress":
        """Read what `to_text` wrote."""
        fields = json.loads(text)
        counts = fields["counts"]
        return cls(
            counts=None if counts is None else Counts(*counts),
            tiles_per_s=fields["tiles_per_s"],
            failures=[(name, error) for name, error in fields["failures"]],
            setbacks=fields["setbacks"],
            result=fields["result"],
        )


@dataclass(frozen=True)
class Ended:
    """How a run of a scan ended.

    Attributes:
        state: State of the scan after the run.
        progress: Its progress.
        detail: Reason for the state.
        retry_in_s: Seconds before a queued scan is retried, or None.
    """

    state: State
    progress: Progress
    detail: str = ""
    retry_in_s: float | None = None


def setback_pause_s(setbacks: int) -> float:
    """Return the seconds for which a scan rests after a number of consecutive setbacks."""
    if setbacks < 1:
        return 0.0
    return min(_LONGEST_SETBACK_S, _FIRST_SETBACK_S * 2.0 ** (setbacks - 1))


@dataclass(frozen=True)
class Job:
    """One scan; times are seconds since 1970.

    Attributes:
        id: Id in addresses.
        version: Number that grows with every change.
        name: Name for people, or empty.
        client: Client that submitted it.
        body: Body of its request.
        source: Path or URL of the source, with links resolved.
        sink: Path or URL of the sink, with links resolved.
        state: State.
        wanted: Request of a client to the owner: `pause`, `cancel`, or None to go on.
        detail: Reason for the state, or empty.
        finish_by_s: Time by which it should be done, or None.
        retry_at_s: Time before which it is not retried, or None.
        created_s: Time of its request.
        started_s: Time of its first run, or None.
        ended_s: Time of its end, or None.
        progress: Its progress.
        is_left: Whether its lease has expired: its process has died or cannot reach the list.
    """

    id: str
    version: int
    name: str
    client: str
    body: dict[str, Any]
    source: str
    sink: str
    state: State
    wanted: str | None
    detail: str
    finish_by_s: float | None
    retry_at_s: float | None
    created_s: float
    started_s: float | None
    ended_s: float | None
    progress: Progress
    is_left: bool

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ACTIVE
