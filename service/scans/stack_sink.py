"""The sink that writes all tiles into one stack: first as shards, which are then assembled.

A shard holds a fixed number of tiles. A tile is done when its shard is durable. Failed tiles are
black in the stack, and the manifest names them.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from service.images.codec import Pixels
from service.scans.errors import ScanError, TileError
from service.scans.journal import Journal
from service.scans.rows import Outcome, PendingTile
from service.scans.sinks import Computed
from service.scans.sources import Listed
from service.scans.stores import Store

RAW = "application/octet-stream"
SHARD_TILES = 16
_ASSEMBLED = "assembled"


@dataclass(frozen=True, slots=True)
class TileFormat:
    """Format of the tiles of a stack.

    Attributes:
        shape: Size (H, W).
        dtype: Data type, uint8 or uint16.
    """

    shape: tuple[int, int]
    dtype: str


class StackFormat(Protocol):
    """Storage format of a stack and its shards.

    Attributes:
        keeps_shards: Whether the stack consists of its shards; otherwise they are copied into it.
    """

    keeps_shards: bool

    def shard_name(self, index: int) -> str:
        """Return the name of a shard."""
        ...

    def encode(self, tiles: Pixels) -> bytes:
        """Turn (SHARD_TILES, H, W) into a shard's bytes."""
        ...

    def decode(self, content: bytes) -> Pixels:
        """Turn a shard's bytes back."""
        ...

    def assemble(
        self, shards: Iterator[Pixels], *, count: int, attributes: dict[str, Any]
    ) -> tuple[str, int]:
        """Make the stack.

        Args:
            shards: Shards (SHARD_TILES, H, W) in order; unused if the shards are kept.
            count: Number of tiles.
            attributes: Attributes of the stack.

        Returns:
            Name and length of the file that completes it.

        Raises:
            StoreLostError: The sink cannot be written.
        """
        ...


class StackSink:
    """Writes tiles into one stack, at their positions."""

    unit_tiles = SHARD_TILES

    def __init__(
        self,
        url: str,
        store: Store,
        shards: Store,
        stack: StackFormat,
        tile: TileFormat,
        *,
        attributes: dict[str, Any],
    ) -> None:
        """Prepare.

        Args:
            url: URL that it was opened by.
            store: Store of the stack.
            shards: Store of its shards.
            stack: Storage format of both.
            tile: Format of the tiles.
            attributes: Attributes of the stack, in addition to the facts that all tiles share.
        """
        self.url = url
        self.io_at_once = min(4, store.io_at_once)
        self.io_per_thread = 1
        self._store = store
        self._shards = shards
        self._stack = stack
        self._tile = tile
        self._attributes = attributes

    def clear(self) -> None:
        """Remove all files in the store of the shards, metadata first."""
        names = [entry.name for entry in self._shards.walk() if not entry.name.endswith("/")]
        # The group's before the array's: what is left never looks like a whole stack.
        for name in sorted(names, key=lambda n: (not n.endswith("zarr.json"), n.count("/"), n)):
            self._shards.remove(name)

    def target(self, listed: Listed) -> None:
        """See `Sink`."""
        del listed

    def accept(self) -> str:
        """See `Sink`."""
        return RAW

    def check(self, journal: Journal) -> bool:
        """Make every tile pending if the finished stack is missing or has another length.

        Returns:
            Whether the tiles are in shards, which `find_outputs` lists.

        Raises:
            ScanError: The stack is finished, its shards are gone, and the source has grown.
        """
        assembled = journal.fact(_ASSEMBLED)
        if assembled is None or self._stack.keeps_shards:
            return True
        name, size_bytes = assembled
        entry = self._store.find(name)
        if entry is None or entry.size_bytes != size_bytes:
            journal.set_fact(_ASSEMBLED, None)
            journal.forget_all()
            return True
        counts = journal.counts()
        if counts.done == counts.total:
            return False
        if not self._has_shards():
            raise ScanError(
                f"{self.url} is finished and its source has other tiles now; scan into another sink"
            )
        return True

    def find_outputs(self) -> Iterator[tuple[str, int]]:
        """See `Sink`."""
        if self._has_shards():
            for entry in self._shards.walk():
                yield entry.name, entry.size_bytes

    def digest(self, output: str, position: int) -> str | None:
        """See `Sink`."""
        try:
            tiles = self._stack.decode(self._shards.read(output))
        except TileError:
            return None
        return _digest(tiles[position % SHARD_TILES])

    def write(self, unit: Sequence[PendingTile], tiles: Sequence[Computed]) -> list[Outcome]:
        """See `Sink`: one shard."""
        name = self._stack.shard_name(unit[0].position // SHARD_TILES)
        black = np.zeros((SHARD_TILES, *self._tile.shape), self._tile.dtype)
        try:
            content = self._read_shard(name)
        except TileError as error:
            if len(unit) < SHARD_TILES:
                reason = f"{name} holds other tiles too and is damaged: {error}; remove it"
                return [computed.failure(reason) for computed in tiles]
            content = black
        if content is None and not tiles:
            return []
        if content is None:
            content = black
        for pending in unit:
            content[pending.position % SHARD_TILES] = 0
        outcomes: list[Outcome] = []
        placed: list[Computed] = []
        for computed in tiles:
            if computed.answer.shape != self._tile.shape:
                outcomes.append(
                    computed.failure(
                        f"its output is {computed.answer.shape} pixels; the stack holds tiles of "
                        f"{self._tile.shape}"
                    )
                )
                continue
            pixels = np.frombuffer(computed.answer.body, np.dtype(self._tile.dtype))
            pixels = pixels.reshape(self._tile.shape)
            content[computed.tile.position % SHARD_TILES] = pixels
            placed.append(computed)
        body = self._stack.encode(content)
        self._shards.write(name, body)
        return outcomes + [
            # The digest of the answer is that of its pixels: `accept` asks for raw ones.
            computed.outcome(name, output_bytes=len(body), is_shared=True)
            for computed in placed
        ]

    def sync(self, outputs: Sequence[str]) -> None:
        """See `Sink`."""
        self._shards.sync(outputs)

    def finish(self, journal: Journal) -> None:
        """See `Sink`; the shards are removed once no tile is missing."""
        counts = journal.counts()
        if journal.fact(_ASSEMBLED) is None or self._stack.keeps_shards or self._has_shards():
            attributes = {
                **self._attributes,
                **common_facts(journal),
                "tiles": counts.total,
                "missing": counts.total - counts.done,
            }
            num_shards = -(-counts.total // SHARD_TILES)
            assembled = self._stack.assemble(
                (self._shard_or_black(index) for index in range(num_shards)),
                count=counts.total,
                attributes=attributes,
            )
            journal.set_fact(_ASSEMBLED, assembled)
        if counts.done == counts.total and not self._stack.keeps_shards:
            for index in range(-(-counts.total // SHARD_TILES)):
                self._shards.remove(self._stack.shard_name(index))

    def put_manifest(self, path: Path) -> str:
        """See `Sink`: it lies next to the stack."""
        name = f"{self.url.rpartition('/')[2]}.{path.name}"
        self._store.move_in(name, path)
        return f"{self.url}.{path.name}"

    def _has_shards(self) -> bool:
        return self._stack.keeps_shards or next(iter(self._shards.walk()), None) is not None

    def _read_shard(self, name: str) -> Pixels | None:
        if self._shards.find(name) is None:
            return None
        return np.array(self._stack.decode(self._shards.read(name)))

    def _shard_or_black(self, index: int) -> Pixels:
        content = self._read_shard(self._stack.shard_name(index))
        if content is None:
            return np.zeros((SHARD_TILES, *self._tile.shape), self._tile.dtype)
        return content


def common_facts(journal: Journal) -> dict[str, Any]:
    """Return the facts that all tiles share: pixel size and metadata."""
    facts: dict[str, Any] = json.loads(journal.common("metadata") or "{}")
    x_nm, y_nm = journal.common("pixel_size_x_nm"), journal.common("pixel_size_y_nm")
    if x_nm is not None and y_nm is not None:
        facts["pixel_size_nm"] = [x_nm, y_nm]
    return facts


def _digest(pixels: npt.NDArray[np.uint8 | np.uint16]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).data.cast("B")).hexdigest()
