"""One compared tile: what it was, how both models answered it, and how far they differ."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from bundle_format.bundle import NOT_JUDGED
from service.images.quality import DOMAIN, NON_FINITE, RESIDUAL
from service.shadow.figures import Differences

FlagOutcome = Literal["neither", "both", "served_only", "shadow_only"]
FLAG_OUTCOMES: tuple[FlagOutcome, ...] = ("neither", "both", "served_only", "shadow_only")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A compared tile.

    Attributes:
        time: Time of the comparison.
        request_id: Id of its request; empty for the tile of a scan.
        sha256: Digest of its pixels, (H, W) uint8 in row-major order.
        served_version: Version of the served model.
        differences: Differences of the two answers.
        served_flags: Flags of the served answer, as `bundle_format.bundle.FLAGS`.
        shadow_flags: Flags of the shadow's answer.
        served_s: Seconds of the served batch for each of its tiles.
        shadow_s: Seconds that the shadow took for the tile.
        pictures: Name of its stored pictures; None where none are stored.
    """

    time: datetime
    request_id: str
    sha256: str
    served_version: str
    differences: Differences
    served_flags: list[float]
    shadow_flags: list[float]
    served_s: float
    shadow_s: float
    pictures: str | None = None

    @property
    def flags(self) -> FlagOutcome:
        """Which of the models flags the tile as suspect."""
        served, shadow = is_suspect(self.served_flags), is_suspect(self.shadow_flags)
        if served and shadow:
            return "both"
        return "served_only" if served else "shadow_only" if shadow else "neither"

    @property
    def rank(self) -> tuple[bool, float]:
        """Order among the most different tiles: flags that disagree, then the edges."""
        return self.flags.endswith("_only"), self.differences.edges


def entry_of(
    reply: dict[str, Any],
    *,
    request_id: str,
    served_version: str,
    served_flags: list[float],
    served_s: float,
) -> Entry:
    """Make an entry from what the shadow process replied.

    Args:
        reply: The differences, `flags`, `seconds` and `sha256`.
        request_id: Id of the request.
        served_version: Version that answered.
        served_flags: Its flags.
        served_s: Seconds of its batch for each tile.
    """
    return Entry(
        time=datetime.now(UTC),
        request_id=request_id,
        sha256=reply["sha256"],
        served_version=served_version,
        differences=Differences(**reply["differences"]),
        served_flags=served_flags,
        # JSON has no NaN: the flags of an answer with NaN or infinity arrive as null.
        shadow_flags=[math.nan if flag is None else flag for flag in reply["flags"]],
        served_s=served_s,
        shadow_s=reply["seconds"],
    )


def is_suspect(flags: list[float]) -> bool:
    """Whether an answer is flagged: non-finite values, or a flag over its bundle's limit."""
    judged = (flags[RESIDUAL], flags[DOMAIN])
    return flags[NON_FINITE] > 0 or any(value > 1 for value in judged if value != NOT_JUDGED)
