"""A scan as the list of scans has it."""

import enum
import json
from dataclasses import dataclass, field
from typing import Any

from service.scans.rows import Counts


class State(enum.StrEnum):
    """Where a scan is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = frozenset({State.QUEUED, State.RUNNING, State.PAUSED})
"""States of a scan that has not ended."""
RESUMABLE = frozenset({State.PAUSED, State.INCOMPLETE, State.FAILED})
"""States that `resume` leads out of."""

_FIRST_SETBACK_S = 30.0
_LONGEST_SETBACK_S = 600.0


@dataclass(frozen=True)
class Progress:
    """How far a scan is, as its owner last said.

    Attributes:
        counts: Of all tiles; None until the source has been listed.
        tiles_per_s: Of the last minutes, or None.
        failures: Name and reason of the first tiles that failed.
        setbacks: Runs in a row that a lost store, or the death of their process, ended before they
            got anywhere.
        result: What the last run said at its end; see `run.JobRun.run`.
    """

    counts: Counts | None = None
    tiles_per_s: float | None = None
    failures: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    setbacks: int = 0
    result: dict[str, Any] | None = None

    def to_text(self) -> str:
        """Return it as a row has it."""
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
        state: State of the scan then.
        progress: Its progress.
        detail: Reason for the state.
        retry_in_s: Seconds before a queued scan is tried again, or None.
    """

    state: State
    progress: Progress
    detail: str = ""
    retry_in_s: float | None = None


def setback_pause_s(setbacks: int) -> float:
    """Return how many seconds a scan rests after so many setbacks in a row."""
    if setbacks < 1:
        return 0.0
    return min(_LONGEST_SETBACK_S, _FIRST_SETBACK_S * 2.0 ** (setbacks - 1))


@dataclass(frozen=True)
class Job:
    """One scan; times are seconds since 1970.

    Attributes:
        id: Its name in addresses.
        version: Grows with every change.
        name: What its client calls it, or empty.
        client: Who asked for it.
        body: What was asked for: the body of the request.
        source: Where tiles come from, as it will be opened.
        sink: Where they go, as it will be opened.
        state: Where it is.
        wanted: What its owner is to do next: `pause`, `cancel`, or None to go on.
        detail: Why it is where it is, or empty.
        finish_by_s: When it is wanted, or None.
        retry_at_s: Before that it is not tried again, or None.
        created_s: When it was asked for.
        started_s: When it was first run, or None.
        ended_s: When it ended, or None.
        progress: How far it is.
        is_left: Whether it is running by name only: its process has not been heard of for long.
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
