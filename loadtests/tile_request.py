"""The bundle's golden tile as a request, raw or as a PNG."""

from urllib.parse import urlsplit

import httpx2

from bundle_format.bundle import Bundle
from loadtests.exchange import Address, TileRequest

PATH = "/superresolve"
RAW = "application/octet-stream"
PNG = "image/png"


def raw_request(bundle: Bundle) -> TileRequest:
    """Return the request with the golden tile as raw bytes."""
    height, width = bundle.manifest.tile
    return TileRequest(
        path=PATH,
        body=bundle.golden().lr[0, 0].tobytes(),
        headers={"Content-Type": RAW, "X-Tile-Shape": f"{height},{width}"},
        answer_bytes=bundle.manifest.scale**2 * height * width,
    )


def png_request(tile: bytes, url: str) -> TileRequest:
    """Return the request with a tile as a PNG.

    Args:
        tile: PNG file.
        url: Address of a service; its answer to the tile has the length that a good one has.
    """
    headers = {"Content-Type": PNG}
    answer = httpx2.post(
        f"{url}{PATH}", content=tile, headers=headers, trust_env=False, timeout=60.0
    )
    return TileRequest(PATH, tile, headers, len(answer.raise_for_status().content))


def address_of(url: str) -> Address:
    """Return host and port."""
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 80)
