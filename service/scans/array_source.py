"""One array of tiles (npy, HDF5, Zarr) as a source."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.scans.errors import SourceDamagedError
from service.scans.facts import Facts
from service.scans.sources import Listed, SourceImage, TileRef, check_size, indexed_name, split_name

RAW = "application/octet-stream"


class TileArray(Protocol):
    """An array (N, H, W) of tiles, read one at a time from any thread.

    Attributes:
        count: N.
        shape: (H, W).
        dtype: uint8 or uint16, of any byte order.
        stamp: Text that changes with the array, as far as its metadata show.
        notes: See `Source`.
        damage: Damage of the container as a whole, or None.
    """

    count: int
    shape: tuple[int, int]
    dtype: np.dtype[np.uint8] | np.dtype[np.uint16]
    stamp: str
    notes: list[str]
    damage: str | None

    def check(self) -> None:
        """Count the tiles that are not stored, and complete `notes`; this may take a while.

        Raises:
            ScanError: The file stores no pixels of the array.
        """
        ...

    def tile(self, index: int) -> npt.NDArray[np.uint8 | np.uint16]:
        """Read one tile (H, W).

        Raises:
            TileError: It cannot be read.
            StoreLostError: The store does not answer.
        """
        ...

    def facts(self, index: int) -> Facts:
        """Return the facts of a tile."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class ArraySource:
    """The tiles of one array, by index."""

    def __init__(self, url: str, name: str, array: TileArray, *, io_at_once: int = 4) -> None:
        """Take an open array.

        Args:
            url: URL that it was opened by.
            name: Name of its file.
            array: Array of the tiles.
            io_at_once: See `Source`.
        """
        self.url = url
        self.io_at_once = io_at_once
        self.io_per_thread = 1
        self.notes = array.notes
        self._name = name
        self._array = array

    def listing(self) -> Iterator[Listed]:
        """See `Source`."""
        self._array.check()
        stem, _ = split_name(self._name)
        height, width = self._array.shape
        size_bytes = height * width * self._array.dtype.itemsize
        for index in range(self._array.count):
            yield Listed(
                indexed_name(self._name, index),
                f"{stem}/{index:08d}",
                ".npy",
                index,
                size_bytes,
                self._array.stamp,
            )
        if self._array.damage is not None:
            raise SourceDamagedError(f"{self.url}: {self._array.damage}")

    def read(self, tile: TileRef) -> SourceImage:
        """See `Source`; the body is raw pixels."""
        check_size(tile)
        dtype = self._array.dtype
        pixels = self._array.tile(tile.place).astype(dtype.newbyteorder("<"), copy=False)
        facts = self._array.facts(tile.place)
        return SourceImage(pixels.tobytes(), RAW, self._array.shape, dtype.name, facts)

    def close(self) -> None:
        """See `Source`."""
        self._array.close()
