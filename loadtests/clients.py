"""Closed-loop clients that measure a server: our own and, where it is installed, wrk."""

from dataclasses import dataclass
from functools import cached_property

from bundle_format.bundle import Bundle
from loadtests import wrk
from loadtests.closed_loop import LoadResult, run_closed_loop
from loadtests.exchange import Address, TileRequest
from loadtests.tile_request import raw_request

OWN, WRK = "own", "wrk"


def by_each_client(
    address: Address,
    tile: TileRequest,
    *,
    connections: int,
    seconds: float,
    warm_up_s: float = 1.0,
) -> dict[str, LoadResult]:
    """Load a server with each client in turn; returns the results by client."""
    loads = {
        OWN: run_closed_loop(
            address, tile, connections=connections, seconds=seconds, warm_up_s=warm_up_s
        )
    }
    if wrk.is_installed():
        loads[WRK] = wrk.run_wrk(address, tile, connections=connections, seconds=seconds)
    return loads


@dataclass(frozen=True)
class TileLoad:
    """A closed-loop load of the bundle's golden tile by our own client.

    Attributes:
        bundle: Bundle of the tile.
        connections: Number of requests in flight.
        seconds: Shortest length of a turn (`loadtests.closed_loop.Window`).
    """

    bundle: Bundle
    connections: int
    seconds: float

    def many(self, address: Address, tile: TileRequest) -> LoadResult:
        """Send a tile over all connections."""
        return run_closed_loop(address, tile, connections=self.connections, seconds=self.seconds)

    def one_by_one(self, address: Address) -> LoadResult:
        """Send raw tiles over one connection; the turn is short, as a latency needs few answers."""
        return run_closed_loop(
            address, self.raw, connections=1, seconds=self.seconds / 4, warm_up_s=0.0
        )

    @cached_property
    def raw(self) -> TileRequest:
        """Request with the raw tile."""
        return raw_request(self.bundle)
