"""The client of the service: NumPy arrays in, super-resolved NumPy arrays out, over HTTP.

    from semsr_client import Client

    with Client("http://fab-sr:8000") as client:
        sr = client.superresolve(tile).pixels

A defect-detection pipeline installs only this package, which needs NumPy, httpx2 and h11 and no
other part of the project. `AsyncClient` is the same for asyncio. Tiles travel as raw bytes over
reused connections. The client retries when a saturated service asks for it, but not beyond a tile's
deadline. It accepts an answer only if its request id and shape fit the tile.
"""

from semsr_client.answers import SrTile, Tile
from semsr_client.client import AsyncClient, Client
from semsr_client.errors import DeadlineError, ServiceError, TileError
from semsr_client.options import Priority

__all__ = [
    "AsyncClient",
    "Client",
    "DeadlineError",
    "Priority",
    "ServiceError",
    "SrTile",
    "Tile",
    "TileError",
]
