"""Several engine processes on a simulated clock: what each card gets, and what a fault costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.results import Column, Row, format_table

_COLUMNS = [
    Column("load", "load", 2),
    Column("offered", "offered"),
    Column("refused", "refused"),
    Column("failed", "failed"),
    Column("p50_ms", "p50 ms", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("tiles_per_s", "tiles/s", 2),
    Column("by_card", "by card"),
    Column("busy", "busy"),
    Column("idle_share", "idle", 3),
    Column("batch", "batch", 2),
]


@dataclass(frozen=True)
class Fault:
    """A fault of one card.

    Attributes:
        card: Index of the card.
        at_s: Time of the fault.
        back_s: Time at which its engine processes serve again.
        is_raising: Whether calls fail until its engine processes end; otherwise they end at once.
    """

    card: int
    at_s: float
    back_s: float
    is_raising: bool = False


@dataclass(frozen=True, kw_only=True)
class CardLoad:
    """One simulated load of several cards.

    Attributes:
        speeds: Speed of each card, as a multiple of the costs'.
        share: Arrivals as a share of what the cards can do with one slot for each.
        per_card: Engine processes on each card.
        slots: Batches that an engine process runs at once.
        card_share: Share of a batch's time in which it has the card to itself.
        front_ends: Number of front ends; each knows its own tiles and the engines' reports.
        seconds: Simulated time of arrivals.
        budget_s: Online budget.
        fault: Fault of a card, or None.
        seed: Seed of arrivals and times.
    """

    speeds: Sequence[float]
    share: float
    per_card: int = 1
    slots: int = 1
    card_share: float = 1.0
    front_ends: int = 8
    seconds: float = 60.0
    budget_s: float = 1.0
    fault: Fault | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class CardOutcome:
    """Result of one load.

    Attributes:
        load: The load.
        offered: Tiles that arrived.
        refused: Tiles that were not admitted.
        failed: Tiles that were admitted and not answered.
        retried: Tiles that were submitted a second time.
        p50_s: Median time from arrival to answer.
        p99_s: 99th percentile of that time.
        tiles: Tiles answered by each card.
        busy: Share of the time in which each card computed.
        idle_share: Share of the time in which a card that was up had nothing to do while tiles
            waited for another one.
        batch: Mean batch size.
        done_s: Times of the answers of each card.
    """

    load: CardLoad
    offered: int
    refused: int
    failed: int
    retried: int
    p50_s: float
    p99_s: float
    tiles: list[int]
    busy: list[float]
    idle_share: float
    batch: float
    done_s: list[list[float]]

    @property
    def tiles_per_s(self) -> float:
        """Tiles answered in a second of arrivals."""
        return sum(self.tiles) / self.load.seconds


def rows(outcomes: Sequence[CardOutcome]) -> list[Row]:
    """Return the outcomes as rows with plain keys."""
    return [
        {
            "load": outcome.load.share,
            "offered": outcome.offered,
            "refused": outcome.refused,
            "failed": outcome.failed,
            "retried": outcome.retried,
            "p50_ms": round(1e3 * outcome.p50_s, 2),
            "p99_ms": round(1e3 * outcome.p99_s, 2),
            "tiles_per_s": round(outcome.tiles_per_s, 2),
            "tiles": outcome.tiles,
            "busy": [round(share, 3) for share in outcome.busy],
            "idle_share": round(outcome.idle_share, 4),
            "batch": round(outcome.batch, 2),
        }
        for outcome in outcomes
    ]


def format_outcomes(outcomes: Sequence[CardOutcome]) -> str:
    """Write the outcomes as a table for people."""
    shown: list[Row] = [
        {
            **row,
            "by_card": " ".join(
                f"{count / max(1, sum(row['tiles'])):.0%}" for count in row["tiles"]
            ),
            "busy": " ".join(f"{share:.0%}" for share in row["busy"]),
        }
        for row in rows(outcomes)
    ]
    note = "idle: share of the time in which a card had nothing to do while tiles waited elsewhere"
    return f"{format_table(_COLUMNS, shown)}\n{note}"
