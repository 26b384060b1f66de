"""Runner of tiles that shows a share of them, with their answers, to the shadow."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from engines.protocol import Tile
from service.batching.tile_runner import TileResult, TileRunner
from service.ground.priority import Priority
from service.ground.request_id import REQUEST_ID


@dataclass(frozen=True)
class Served:
    """Version of the served model that answered a tile.

    Attributes:
        version: Version of its bundle.
        digest: Digest of its bundle.
        tile: Height and width of its tiles in LR pixels.
        scale: Upscaling factor.
    """

    version: str
    digest: str
    tile: tuple[int, int]
    scale: int


class Sample(NamedTuple):
    """A tile that was drawn for the shadow, and its answer.

    Attributes:
        served: Version that answered it.
        request_id: Id of its request; empty for the tile of a scan.
        lr: (H, W) uint8.
        result: Answer of the served model.
    """

    served: Served
    request_id: str
    lr: Tile
    result: TileResult


class ShadowedRunner:
    """A `TileRunner` whose answers are those of another runner, unchanged."""

    def __init__(
        self,
        runner: TileRunner,
        served: Served,
        *,
        share: float,
        offer: Callable[[Sample], None],
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Prepare.

        Args:
            runner: Runner of the tiles.
            served: Version that it runs.
            share: Share of tiles to draw, 0 to 1.
            offer: Callback with each drawn tile, once its answer is on its way.
            draw: Source of random numbers from 0 to below 1.
        """
        self._runner = runner
        self._served = served
        self._share = share
        self._offer = offer
        self._draw = draw

    @property
    def unavailable(self) -> str | None:
        """See `TileRunner.unavailable`."""
        return self._runner.unavailable

    def expected_wait_s(self, priority: Priority = Priority.ONLINE) -> float:
        """See `TileRunner.expected_wait_s`."""
        return self._runner.expected_wait_s(priority)

    def check(
        self, count: int, *, deadline_s: float | None = None, priority: Priority = Priority.ONLINE
    ) -> None:
        """See `TileRunner.check`."""
        self._runner.check(count, deadline_s=deadline_s, priority=priority)

    def submit(
        self,
        tiles: Sequence[Tile],
        *,
        deadline_s: float | None = None,
        priority: Priority = Priority.ONLINE,
    ) -> list[asyncio.Future[TileResult]]:
        """See `TileRunner.submit`."""
        futures = self._runner.submit(tiles, deadline_s=deadline_s, priority=priority)
        for tile, future in zip(tiles, futures, strict=True):
            if self._draw() < self._share:
                future.add_done_callback(partial(self._take, tile, REQUEST_ID.get()))
        return futures

    def _take(self, tile: Tile, request_id: str, future: asyncio.Future[TileResult]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        sample = Sample(self._served, request_id, tile, future.result())
        # Later in the turn of the event loop: the answer goes to its client first.
        future.get_loop().call_soon(self._offer, sample)
