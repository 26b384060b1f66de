"""An npy array (N, H, W) in a file as an array of tiles."""

import numpy as np

from service.ground.errors import ServiceError
from service.images.codec.npy import MAX_HEADER_BYTES, read_npy_header
from service.scans.array_source import TileArray
from service.scans.errors import ScanError, TileError
from service.scans.facts import Facts
from service.scans.sources import read_part
from service.scans.stores import Store
from service.scans.tile_arrays import Pixels, pixel_dtype, tile_layout


class NpyStack:
    """An npy array in a file; each tile is read by itself."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        entry = store.find(name)
        where = f"{store.url}/{name}"
        try:
            head = store.read(name, length=MAX_HEADER_BYTES + 16)
            descr, fortran, shape, self._start = read_npy_header(memoryview(head))
        except (ServiceError, TileError) as error:
            raise ScanError(f"{where}: {error}") from error
        if fortran:
            raise ScanError(f"{where} is in Fortran order; expected C order")
        self.dtype = pixel_dtype(descr, name)
        count, self.shape = tile_layout(shape, name)
        self.stamp = "" if entry is None else entry.stamp
        self.notes: list[str] = []
        self._tile_bytes = self.shape[0] * self.shape[1] * self.dtype.itemsize
        size_bytes = 0 if entry is None else entry.size_bytes - self._start
        # A header can claim more than any disk holds; a partial last tile is listed.
        self.count = min(count, -(-size_bytes // self._tile_bytes))
        self.damage: str | None = None
        if size_bytes != count * self._tile_bytes:
            self.damage = (
                f"the npy array {shape} of {descr} needs {count * self._tile_bytes} bytes after "
                f"its header, and the file has {size_bytes}: it "
                + ("has been cut" if size_bytes < count * self._tile_bytes else "goes on after it")
            )

    def check(self) -> None:
        """See `TileArray`: the length of the file has been checked."""

    def tile(self, index: int) -> Pixels:
        """See `TileArray`."""
        start = self._start + index * self._tile_bytes
        content = read_part(self._store, self._name, start=start, length=self._tile_bytes)
        if len(content) != self._tile_bytes:
            raise TileError(
                f"{self._name} ends within it: {len(content)} of {self._tile_bytes} bytes are there"
            )
        return np.frombuffer(content, self.dtype).reshape(self.shape)

    def facts(self, index: int) -> Facts:
        """See `TileArray`: npy files have none."""
        del index
        return {}

    def close(self) -> None:
        """See `TileArray`."""


def open_npy(store: Store, name: str) -> TileArray:
    """Open an npy stack.

    Raises:
        ScanError: It is not an array of tiles.
    """
    return NpyStack(store, name)
