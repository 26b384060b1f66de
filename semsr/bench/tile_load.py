"""Loads of the bundle's golden tile: raw, as a PNG, and raw by `wrk`."""

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

import httpx2

from bundle_format.bundle import Bundle
from semsr.bench import wrk
from semsr.bench.codec_loop import PNG, png_tile
from semsr.bench.load import LoadResult, run_load

Address = tuple[str, int]
PATH = "/superresolve"
RAW = "application/octet-stream"


@dataclass(frozen=True)
class TileLoad:
    """What every turn of load has in common.

    Attributes:
        bundle: Whose tile.
        connections: Requests under way.
        seconds: Length of a turn, at least (`semsr.bench.load.Window`).
    """

    bundle: Bundle
    connections: int
    seconds: float

    def raw(self, address: Address, *, path: str = PATH) -> LoadResult:
        """Raw tiles."""
        return self._raw(address, path, self.connections, self.seconds, warm_up_s=1.0)

    def raw_one_by_one(self, address: Address) -> LoadResult:
        """Raw tiles over one connection; its latency takes few answers to see."""
        return self._raw(address, PATH, 1, self.seconds / 4, warm_up_s=0.0)

    def png(self, address: Address, *, answer_bytes: int) -> LoadResult:
        """Tiles as PNG; see `png_answer_bytes`."""
        return run_load(
            address,
            path=PATH,
            body=self._png_tile,
            headers={"Content-Type": PNG},
            connections=self.connections,
            seconds=self.seconds,
            expected_bytes=answer_bytes,
        )

    def png_answer_bytes(self, url: str) -> int:
        """Ask a service for the picture; one tile gives one picture, always of the same length."""
        answer = httpx2.post(
            f"{url}{PATH}",
            content=self._png_tile,
            headers={"Content-Type": PNG},
            trust_env=False,
            timeout=60.0,
        )
        return len(answer.raise_for_status().content)

    def by_each_client(self, address: Address, *, path: str = PATH) -> dict[str, LoadResult]:
        """Raw tiles from our own client and, where it is installed, from wrk."""
        loads = {"": self.raw(address, path=path)}
        if wrk.is_installed():
            loads[", by wrk"] = wrk.run_wrk(
                address,
                path=path,
                body=self._raw_tile,
                headers=self._raw_headers,
                connections=self.connections,
                seconds=self.seconds,
            )
        return loads

    def _raw(
        self, address: Address, path: str, connections: int, seconds: float, *, warm_up_s: float
    ) -> LoadResult:
        return run_load(
            address,
            path=path,
            body=self._raw_tile,
            headers=self._raw_headers,
            connections=connections,
            seconds=seconds,
            expected_bytes=self.answer_bytes,
            warm_up_s=warm_up_s,
        )

    @property
    def answer_bytes(self) -> int:
        """Length of a raw answer."""
        height, width = self.bundle.manifest.tile
        return self.bundle.manifest.scale**2 * height * width

    @property
    def _raw_headers(self) -> dict[str, str]:
        height, width = self.bundle.manifest.tile
        return {"Content-Type": RAW, "X-Tile-Shape": f"{height},{width}"}

    @cached_property
    def _raw_tile(self) -> bytes:
        return self.bundle.golden().lr[0, 0].tobytes()

    @cached_property
    def _png_tile(self) -> bytes:
        return png_tile(self.bundle)


def address_of(url: str) -> Address:
    """Host and port."""
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)
