"""Arrays of tiles in npy, HDF5 and Zarr (v2 and v3), opened and read one tile at a time."""

import contextlib
import hashlib
import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from service.codec.npy import MAX_HEADER_BYTES, read_npy_header
from service.errors import ServiceError
from service.installation import install_hint
from service.scans.array_source import TileArray
from service.scans.errors import ScanError, StoreLostError, TileError
from service.scans.extras import load_extra
from service.scans.facts import PER_TILE, Facts, plain, text
from service.scans.object_store import ObjectStore
from service.scans.sources import read_part
from service.scans.stores import Store

Pixels = npt.NDArray[np.uint8 | np.uint16]
PixelDtype = np.dtype[np.uint8] | np.dtype[np.uint16]


class NpyStack:
    """An npy array in a file, of which one tile at a time is read."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        entry = store.find(name)
        try:
            head = store.read(name, length=MAX_HEADER_BYTES + 16)
            descr, fortran, shape, self._start = read_npy_header(memoryview(head))
        except (ServiceError, TileError) as error:
            raise ScanError(f"{store.url}/{name}: {error}") from error
        if fortran:
            raise ScanError(f"{store.url}/{name} is in Fortran order; expected C order")
        self.dtype = _pixel_dtype(descr, name)
        self.count, self.shape = _layout(shape, name)
        self.stamp = "" if entry is None else entry.stamp
        self._tile_bytes = self.shape[0] * self.shape[1] * self.dtype.itemsize

    def tile(self, index: int) -> Pixels:
        """See `TileArray`."""
        start = self._start + index * self._tile_bytes
        content = read_part(self._store, self._name, start=start, length=self._tile_bytes)
        if len(content) != self._tile_bytes:
            raise TileError(f"{self._name} ends within it")
        return np.frombuffer(content, self.dtype).reshape(self.shape)

    def facts(self, index: int) -> Facts:
        """See `TileArray`: npy has no place for any."""
        del index
        return {}

    def close(self) -> None:
        """See `TileArray`."""


class LabelledArray:
    """A dataset of HDF5 or an array of Zarr, with its attributes and the arrays beside it."""

    def __init__(
        self, name: str, array: Any, beside: Mapping[str, Any], *, stamp: str, file: Any = None
    ) -> None:
        """Take an open array.

        Args:
            name: For messages.
            array: (N, H, W) or (N, 1, H, W).
            beside: The arrays of the same group by name.
            stamp: See `TileArray`.
            file: What to close in the end, or None.
        """
        self._array = array
        self._file = file
        self.stamp = stamp
        self.dtype = _pixel_dtype(str(array.dtype), name)
        self.count, self.shape = _layout(tuple(array.shape), name)
        self._has_channel = len(array.shape) == 4
        attributes = {text(key): plain(value) for key, value in dict(array.attrs).items()}
        self._attributes = {key: value for key, value in attributes.items() if value is not None}
        self._per_tile = {
            key: values
            for key, values in beside.items()
            if key in PER_TILE and len(values.shape) > 0 and values.shape[0] == self.count
        }

    def tile(self, index: int) -> Pixels:
        """See `TileArray`."""
        with _reading():
            tile = self._array[index, 0] if self._has_channel else self._array[index]
            return np.asarray(tile)

    def facts(self, index: int) -> Facts:
        """See `TileArray`."""
        with _reading():
            own = {key: plain(values[index]) for key, values in self._per_tile.items()}
        return {**self._attributes, **{k: v for k, v in own.items() if v is not None}}

    def close(self) -> None:
        """See `TileArray`."""
        if self._file is not None:
            self._file.close()


def open_npy(store: Store, name: str) -> TileArray:
    """Open an npy stack.

    Raises:
        ScanError: It is no array of tiles.
    """
    return NpyStack(store, name)


def open_hdf5(store: Store, name: str, inner: str, *, spool: Path) -> TileArray:
    """Open a dataset of an HDF5 file; on an object store, of a copy of it.

    Args:
        store: Where it lies.
        name: Its name there.
        inner: The dataset's path, or empty for the only one that holds tiles.
        spool: Folder for the copy.

    Raises:
        ScanError: There is no such dataset, or it holds no tiles.
    """
    h5py = load_extra("h5py", purpose=f"the HDF5 file {name}")
    path = local_copy(store, name, spool)
    entry = store.find(name)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ScanError(f"{store.url}/{name} cannot be opened as HDF5: {error}") from error
    datasets: dict[str, Any] = {}

    def note(found: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            # Their pixels lie in other files, named by this one.
            if store.is_confined and (item.is_virtual or item.external):
                raise ScanError(
                    f"{store.url}/{name}: the dataset {found} lies in other files (virtual or "
                    "external), which a confined scan does not follow; copy it into one file"
                )
            datasets[found] = item

    file.visititems(note)
    chosen = _choose(datasets, inner, f"{store.url}/{name}")
    stamp = "" if entry is None else entry.stamp
    beside = _beside(datasets, chosen)
    return LabelledArray(name, datasets[chosen], beside, stamp=stamp, file=file)


def open_zarr(path: str, inner: str) -> TileArray:
    """Open an array of a Zarr store, local or on an object store.

    Args:
        path: Path or URL of the store.
        inner: The array's path within it, or empty for the only one that holds tiles.

    Raises:
        ScanError: There is no such array, or it holds no tiles.
    """
    zarr = load_extra("zarr", purpose=f"the Zarr store {path}")
    try:
        root = zarr.open(path.removeprefix("file://"), mode="r")
    except ImportError as error:
        raise ScanError(f"{path}: {error}; {install_hint('scan')}") from error
    except Exception as error:  # zarr and the stores below it share no base class
        raise ScanError(f"{path} cannot be opened as Zarr: {error}") from error
    if isinstance(root, zarr.Array):
        arrays = {"": root}
        chosen = inner
        if inner:
            raise ScanError(f"{path} is one array; it holds no {inner!r}")
    else:
        members = root.members(max_depth=None)
        arrays = {name: item for name, item in members if isinstance(item, zarr.Array)}
        chosen = _choose(arrays, inner, path)
    array = arrays[chosen]
    metadata = json.dumps(array.metadata.to_dict(), sort_keys=True, default=str)
    stamp = hashlib.sha256(metadata.encode()).hexdigest()[:16]
    return LabelledArray(path, array, _beside(arrays, chosen), stamp=stamp)


def local_copy(store: Store, name: str, spool: Path) -> Path:
    """Return where a file lies on this machine; one of an object store is copied there first.

    Raises:
        ScanError: It cannot be read.
    """
    path = store.local_path(name)
    if path is not None:
        return path
    assert isinstance(store, ObjectStore)  # noqa: S101 (the only other kind)
    spool.mkdir(parents=True, exist_ok=True)
    copy = spool / name
    try:
        store.download(name, copy)
    except TileError as error:
        raise ScanError(f"{store.url}/{name} {error}") from error
    return copy


def _choose(arrays: Mapping[str, Any], inner: str, where: str) -> str:
    if inner:
        if inner.strip("/") not in arrays:
            raise ScanError(f"{where} has no array {inner!r}; it has {', '.join(arrays) or 'none'}")
        return inner.strip("/")
    candidates = [
        name
        for name, array in arrays.items()
        if len(array.shape) in {3, 4} and np.dtype(array.dtype).name in {"uint8", "uint16"}
    ]
    if len(candidates) != 1:
        raise ScanError(
            f"{where} has {len(candidates)} arrays that can be tiles "
            f"({', '.join(candidates) or 'none'}); name one: {where}::NAME"
        )
    return candidates[0]


def _beside(arrays: Mapping[str, Any], chosen: str) -> dict[str, Any]:
    folder = chosen.rpartition("/")[0]
    return {
        name.rpartition("/")[2]: array
        for name, array in arrays.items()
        if name != chosen and name.rpartition("/")[0] == folder
    }


def _layout(shape: tuple[int, ...], name: str) -> tuple[int, tuple[int, int]]:
    """Return N and (H, W)."""
    if len(shape) == 4 and shape[1] == 1:
        shape = (shape[0], *shape[2:])
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or min(shape[1:]) < 1:
        raise ScanError(f"{name} has the shape {shape}; expected (N, H, W) or (N, 1, H, W)")
    return shape[0], (shape[1], shape[2])


def _pixel_dtype(descr: str, name: str) -> PixelDtype:
    try:
        dtype = np.dtype(descr)
    except TypeError as error:
        raise ScanError(f"{name} has the dtype {descr!r}; expected uint8 or uint16") from error
    if dtype.kind != "u" or dtype.itemsize > 2:
        raise ScanError(f"{name} holds {dtype.name}; expected uint8 or uint16")
    return cast("PixelDtype", dtype)


@contextlib.contextmanager
def _reading() -> Generator[None]:
    """Turn what h5py and zarr raise into the errors of a scan."""
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        raise StoreLostError(f"the store of the array does not answer: {error}") from error
    except Exception as error:  # of many kinds: codecs, checksums, files, object stores
        if type(error).__module__.startswith(("aiohttp", "botocore", "aiobotocore", "fsspec")):
            raise StoreLostError(f"the store of the array does not answer: {error}") from error
        raise TileError(f"cannot be read: {error}") from error
