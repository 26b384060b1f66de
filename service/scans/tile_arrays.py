"""Arrays of tiles in HDF5 and Zarr: the choice of the array, its tiles and its facts.

A file may also hold members of other kinds, and damaged ones. An unusable member is left out with
the reason, and does not affect the others.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from service.ground.errors import UnsuitableImage
from service.images.codec.npy import stack_layout
from service.scans.errors import ScanError, StoreLostError, TileError
from service.scans.facts import PER_TILE, Facts, plain, text
from service.scans.stored_chunks import StoredChunks

Pixels = npt.NDArray[np.uint8 | np.uint16]
PixelDtype = np.dtype[np.uint8] | np.dtype[np.uint16]

CHUNKS_NOT_STORED = "chunks_not_stored"
"""Name of the fact with the number of a tile's chunks that the file does not store."""
_SHOWN = 5


@dataclass(frozen=True)
class Members:
    """The members of a file of arrays.

    Attributes:
        arrays: Usable arrays by path.
        unusable: Reasons of the unusable members by path.
    """

    arrays: dict[str, Any] = field(default_factory=dict[str, Any])
    unusable: dict[str, str] = field(default_factory=dict[str, str])

    def choose(self, inner: str, where: str) -> str:
        """Return the path of the array of tiles.

        Args:
            inner: Path of the array, or empty for the only one that can be tiles.
            where: Name of the file, for messages.

        Raises:
            ScanError: The array does not exist, cannot be used, or is not the only one.
        """
        inner = inner.strip("/")
        if inner:
            if inner in self.unusable:
                raise ScanError(f"{where}: {inner} cannot be used: {self.unusable[inner]}")
            if inner not in self.arrays:
                known = ", ".join(self.arrays) or "none"
                raise ScanError(f"{where} has no array {inner!r}; it has {known}")
            return inner
        refusals = dict(self.unusable)
        candidates: list[str] = []
        for name, array in self.arrays.items():
            reason = _why_not(name, array)
            if reason is None:
                candidates.append(name)
            else:
                refusals[name] = reason
        if len(candidates) == 1:
            return candidates[0]
        left_out = _listed(f"{name} ({reason})" for name, reason in refusals.items())
        raise ScanError(
            f"{where} has {len(candidates)} arrays that can be tiles "
            f"({', '.join(candidates) or 'none'}); name one: {where}::NAME"
            + (f". Left out: {left_out}" if left_out and not candidates else "")
        )

    def siblings(self, chosen: str) -> dict[str, Any]:
        """Return the other arrays in the group of the chosen one, by the last part of the path."""
        folder = chosen.rpartition("/")[0]
        return {
            name.rpartition("/")[2]: array
            for name, array in self.arrays.items()
            if name != chosen and name.rpartition("/")[0] == folder
        }


class LabelledArray:
    """A dataset of HDF5 or an array of Zarr, with its attributes and the arrays of its group."""

    def __init__(
        self,
        name: str,
        array: Any,
        siblings: Mapping[str, Any],
        *,
        stamp: str,
        find_stored: Callable[[], StoredChunks | None],
        file: Any = None,
    ) -> None:
        """Take an open array.

        Args:
            name: Name for messages.
            array: Open array, (N, H, W) or (N, 1, H, W).
            siblings: Other arrays of the group by name.
            stamp: See `TileArray`.
            find_stored: Function, called once, that returns the stored chunks, or None if they
                are unknown.
            file: File to close in the end, or None.

        Raises:
            ScanError: It has no tiles.
        """
        self._name = name
        self._array = array
        self._file = file
        self.stamp = stamp
        self.dtype = pixel_dtype(array.dtype, name)
        self.count, self.shape = tile_layout(tuple(array.shape), name)
        self.notes: list[str] = []
        self.damage: str | None = None
        self._has_channel = len(array.shape) == 4
        self._is_one = len(array.shape) == 2
        self._attributes = self._read_attributes(array)
        self._per_tile = {
            key: values for key, values in siblings.items() if self._is_per_tile(key, values)
        }
        self._find_stored = find_stored

    def check(self) -> None:
        """See `TileArray`."""
        stored = self._stored
        if stored is None or not stored.lacking:
            return
        array = self._array
        fill = array.fillvalue if hasattr(array, "fillvalue") else array.fill_value
        note = (
            f"{stored.lacking} of {self.count} tiles have chunks that {self._name} does not store "
            f"(never written, or lost): they are read as {fill}; {CHUNKS_NOT_STORED} in the "
            "manifest's metadata says which"
        )
        if note not in self.notes:
            self.notes.append(note)

    @cached_property
    def _stored(self) -> StoredChunks | None:
        """The stored chunks; None if they are unknown.

        Raises:
            ScanError: No chunk is stored.
        """
        stored = self._find_stored()
        if stored is not None and not stored.by_row:
            raise ScanError(
                f"{self._name} stores none of its chunks: it was never written, or its data are "
                "gone"
            )
        return stored

    def tile(self, index: int) -> Pixels:
        """See `TileArray`."""
        with _reading():
            if self._is_one:
                return np.asarray(self._array[:])
            tile = self._array[index, 0] if self._has_channel else self._array[index]
            return np.asarray(tile)

    def facts(self, index: int) -> Facts:
        """See `TileArray`."""
        with _reading():
            own = {key: plain(values[index]) for key, values in self._per_tile.items()}
        if self._stored is not None and (missing := self._stored.missing(index)):
            own[CHUNKS_NOT_STORED] = missing
        return {**self._attributes, **{k: v for k, v in own.items() if v is not None}}

    def close(self) -> None:
        """See `TileArray`."""
        if self._file is not None:
            self._file.close()

    def _read_attributes(self, array: Any) -> Facts:
        """Read the attributes; an unreadable one becomes a note."""
        found: Facts = {}
        try:
            keys = list(array.attrs)
        except Exception as error:  # as below
            self.notes.append(f"the attributes cannot be read: {reason_of(error)}")
            return found
        for key in keys:
            try:
                value = plain(array.attrs[key])
            except Exception as error:  # h5py raises many kinds for types that it does not know
                self.notes.append(f"the attribute {text(key)} cannot be read: {reason_of(error)}")
                continue
            if value is not None:
                found[text(key)] = value
            elif key in PER_TILE:
                self.notes.append(f"the attribute {key} is {array.attrs[key]} and left out")
        return found

    def _is_per_tile(self, key: str, values: Any) -> bool:
        """Whether an array has a value for each tile; an unreadable one becomes a note."""
        if key not in PER_TILE or not values.shape or values.shape[0] != self.count:
            return False
        try:
            if self.count:
                values[0]
        except Exception as error:  # as of `_reading`
            self.notes.append(f"the array {key} next to the tiles is left out: {reason_of(error)}")
            return False
        return True


def tile_layout(shape: tuple[int, ...], name: str) -> tuple[int, tuple[int, int]]:
    """Return N and (H, W) of an array; one image (H, W) is a stack of one.

    Raises:
        ScanError: It is not a stack of grey tiles.
    """
    try:
        count, height, width = (1, *shape) if len(shape) == 2 else stack_layout(shape)
    except UnsuitableImage as error:
        raise ScanError(f"{name}: {error}") from error
    if min(height, width) < 1:
        raise ScanError(f"{name} has the shape {shape}; expected tiles of 1 pixel at least")
    return count, (height, width)


def pixel_dtype(descr: Any, name: str) -> PixelDtype:
    """Return the data type of pixels, checked to be uint8 or uint16.

    Raises:
        ScanError: It is neither uint8 nor uint16.
    """
    try:
        dtype = np.dtype(descr)
    except TypeError as error:
        raise ScanError(f"{name} has the dtype {descr!r}; expected uint8 or uint16") from error
    if dtype.kind != "u" or dtype.itemsize > 2:
        raise ScanError(f"{name} holds {dtype.name}; expected uint8 or uint16")
    return cast("PixelDtype", dtype)


def reason_of(error: Exception) -> str:
    """Return the type and the message of an error in one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:300] if words else type(error).__name__


def _why_not(name: str, array: Any) -> str | None:
    """Return why an array cannot be tiles, or None if it can."""
    if len(array.shape) not in {3, 4}:
        return f"it has the shape {tuple(array.shape)}"
    try:
        pixel_dtype(array.dtype, name)
        tile_layout(tuple(array.shape), name)
    except ScanError as error:
        return str(error)
    return None


def _listed(items: Iterable[str]) -> str:
    found = list(items)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


@contextlib.contextmanager
def _reading() -> Generator[None]:
    """Turn the errors of h5py and zarr into errors of a scan."""
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        raise StoreLostError(f"the store of the array does not answer: {error}") from error
    except Exception as error:  # of many kinds: codecs, checksums, files, object stores
        if type(error).__module__.startswith(("aiohttp", "botocore", "aiobotocore", "fsspec")):
            raise StoreLostError(f"the store of the array does not answer: {error}") from error
        raise TileError(f"cannot be read: {error}") from error
