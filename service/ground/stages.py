"""Where a request's time went: for `Server-Timing`, the log and traces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class BatchTime(NamedTuple):
    """A batch that held tiles of a request; tiles of one batch have the same.

    Attributes:
        queue_s: Seconds that they waited for it.
        infer_s: Seconds that the engine took for it.
        size: Tiles in it, whosever they were.
    """

    queue_s: float
    infer_s: float
    size: int


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one request, each of which began when the one before it ended.

    Attributes:
        started_s: `time.perf_counter()` when the first one began.
        seconds: Seconds by stage.
        batches: Those that ran its tiles, from the beginning of `queue` on.
    """

    started_s: float
    seconds: dict[str, float]
    batches: Sequence[BatchTime] = ()

    def server_timing(self) -> str:
        """Write them as the header `Server-Timing` has them."""
        return ", ".join(f"{stage};dur={s * 1e3:.2f}" for stage, s in self.seconds.items())
