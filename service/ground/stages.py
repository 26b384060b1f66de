"""Durations of a request's stages, for `Server-Timing`, the log and traces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class BatchTime(NamedTuple):
    """Times of a batch that held tiles of a request.

    Attributes:
        queue_s: Seconds that they waited for it.
        infer_s: Seconds that the engine took for it.
        size: Number of tiles in it, of all requests.
    """

    queue_s: float
    infer_s: float
    size: int


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one request, each of which began when the previous one ended.

    Attributes:
        started_s: `time.perf_counter()` when the first one began.
        seconds: Seconds by stage.
        batches: Batches that ran its tiles, in the stages `queue` and `infer`.
    """

    started_s: float
    seconds: dict[str, float]
    batches: Sequence[BatchTime] = ()

    def server_timing(self) -> str:
        """Return the stages as the value of the header `Server-Timing`."""
        return ", ".join(f"{stage};dur={s * 1e3:.2f}" for stage, s in self.seconds.items())
