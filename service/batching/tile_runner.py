"""The interface that runs tiles, in this process or in an engine process."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from engines.protocol import Tile
from engines.sixteen_bit import Tile16
from service.ground.priority import Priority


class TileResult(NamedTuple):
    """One super-resolved tile and where its time went.

    Attributes:
        sr: (scale*H, scale*W) uint8, or uint16 where 16 bits were requested, 65535 being white; a
            view that keeps its memory in use as long as it exists.
        flags: (K,) float32, see `bundle_format.bundle.FLAGS`.
        queue_s: Seconds between submission and the start of its batch.
        infer_s: Seconds that the engine took for the whole batch.
        batch_size: Tiles in that batch.
    """

    sr: Tile | Tile16
    flags: npt.NDArray[np.float32]
    queue_s: float
    infer_s: float
    batch_size: int


class TileRunner(Protocol):
    """Queues tiles and runs them on an engine; used on one event loop."""

    @property
    def unavailable(self) -> str | None:
        """Reason why no tile can be run now, or None."""
        ...

    def expected_wait_s(self, priority: Priority = Priority.ONLINE) -> float:
        """Estimate the seconds until all tiles that wait or are in flight now are done."""
        ...

    def check(
        self, count: int, *, deadline_s: float | None = None, priority: Priority = Priority.ONLINE
    ) -> None:
        """Refuse tiles that would not be admitted now.

        Raises:
            service.ground.errors.QueueFull: There are too many, or they would be done too late.
            service.ground.errors.NotReady: Nothing runs them now.
        """
        ...

    def submit(
        self,
        tiles: Sequence[Tile],
        *,
        deadline_s: float | None = None,
        priority: Priority = Priority.ONLINE,
        bits: int = 8,
    ) -> list[asyncio.Future[TileResult]]:
        """Queue the tiles of one request, all or none.

        Args:
            tiles: Arrays (H, W) uint8 of one shape; they must not change until their futures are
                done.
            deadline_s: `time.monotonic()` at which the tiles expire.
            priority: Class of the tiles.
            bits: Bits of the answers: 8, or 16 on an engine that was loaded for it.

        Returns:
            One future per tile, in order. Cancelling one takes its tile out of the queue. A refusal
            is raised here, or comes by the futures where the queue lies in another process.

        Raises:
            service.ground.errors.QueueFull: They do not all fit into the queue now, or would be too
                late.
            service.ground.errors.NotReady: Nothing runs them now.
        """
        ...
