"""The client of the service: NumPy arrays in, super-resolved NumPy arrays out, over HTTP.

    from semsr_client import Client

    with Client("http://fab-sr:8000") as client:
        sr = client.superresolve(tile).pixels

What a defect-detection pipeline installs; it needs NumPy and httpx2 and nothing else of this
project. `AsyncClient` is the same for asyncio. Tiles travel as raw bytes, connections are reused,
a saturated service is asked again when it says so, nothing is waited for beyond its deadline, and
an answer is accepted only if it has its tile's request id and shape.
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
