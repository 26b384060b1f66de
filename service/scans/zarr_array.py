"""An array of a Zarr store (v2 and v3) as an array of tiles."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from service.installation import install_hint
from service.scans.array_source import TileArray
from service.scans.errors import ScanError
from service.scans.extras import load_extra
from service.scans.tile_arrays import (
    LabelledArray,
    Members,
    missing_chunks,
    reason_of,
)

_METADATA = ("zarr.json", ".zarray", ".zgroup")


def open_zarr(path: str, inner: str) -> TileArray:
    """Open an array of a Zarr store, local or on an object store.

    Args:
        path: Path or URL of the store.
        inner: The array's path within it, or empty for the only one that holds tiles.

    Raises:
        ScanError: There is no such array, or it holds no tiles.
    """
    zarr = load_extra("zarr", purpose=f"the Zarr store {path}")
    root = _open_root(zarr, path.removeprefix("file://"), path)
    if isinstance(root, zarr.Array):
        if inner:
            raise ScanError(f"{path} is one array; it holds no {inner!r}")
        members, chosen = Members({"": root}), ""
    else:
        members = _members(zarr, root)
        chosen = members.choose(inner, path)
    array = members.arrays[chosen]
    metadata = json.dumps(array.metadata.to_dict(), sort_keys=True, default=str)
    stamp = hashlib.sha256(metadata.encode()).hexdigest()[:16]
    return LabelledArray(
        path,
        array,
        members.beside(chosen),
        stamp=stamp,
        find_missing=lambda: _missing(zarr, array),
    )


def _open_root(zarr: Any, place: str, path: str) -> Any:
    try:
        return zarr.open(place, mode="r")
    except ImportError as error:
        raise ScanError(f"{path}: {error}; {install_hint('scan')}") from error
    except Exception as error:  # zarr and the stores below it share no base class
        try:
            # Consolidated metadata are read as one: a member that zarr does not know spoils all.
            return zarr.open_group(place, mode="r", use_consolidated=False)
        except Exception:  # the first error says what is wrong
            raise ScanError(f"{path} cannot be opened as Zarr: {error}") from error


def _members(zarr: Any, root: Any) -> Members:
    """Find the arrays; where one member is damaged, each by itself."""
    try:
        found = dict(root.members(max_depth=None))
    except Exception:  # whatever a damaged member raises is found again, with its path
        root = zarr.open_group(root.store, path=root.path, mode="r", use_consolidated=False)
        return _members_one_by_one(zarr, root)
    return Members({name: item for name, item in found.items() if isinstance(item, zarr.Array)})


def _members_one_by_one(zarr: Any, root: Any) -> Members:
    members = Members()
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting:
        folder, group = waiting.pop()
        for name in _child_names(zarr, group):
            path = f"{folder}/{name}" if folder else name
            try:
                item = group[name]
            except Exception as error:  # of many kinds: JSON, codecs, data types, stores
                members.unusable[path] = reason_of(error)
                continue
            if isinstance(item, zarr.Array):
                members.arrays[path] = item
            else:
                waiting.append((path, item))
    return members


def _child_names(zarr: Any, group: Any) -> list[str]:
    """Return the names of what has metadata within a group, in order."""
    store, path = group.store_path.store, group.store_path.path
    prefix = f"{path}/" if path else ""

    async def names() -> list[str]:
        children = [name.strip("/") async for name in store.list_dir(path)]
        return sorted(
            [
                name
                for name in children
                if name not in _METADATA
                and any([await store.exists(f"{prefix}{name}/{file}") for file in _METADATA])
            ]
        )

    return zarr.core.sync.sync(names())


def _missing(zarr: Any, array: Any) -> tuple[npt.NDArray[np.int64] | None, int]:
    """Return how many chunks (shards, where it has them) of each tile are not stored, and of all.

    None where that cannot be told: the store does not list what it holds.
    """
    store, path = array.store_path.store, array.store_path.path
    if not store.supports_listing or len(array.shape) < 2 or 0 in array.shape:
        return None, 0
    grid = array.shards or array.chunks
    prefix = f"{path}/" if path else ""

    async def keys() -> set[str]:
        return {key async for key in store.list_prefix(prefix)}

    try:
        found = zarr.core.sync.sync(keys())
    except Exception:  # reading the tiles will say what is wrong with the store
        return None, 0

    def stored() -> Iterator[int]:
        for place in itertools.product(
            *(range(-(-n // c)) for n, c in zip(array.shape, grid, strict=True))
        ):
            if f"{prefix}{array.metadata.encode_chunk_key(place)}" in found:
                yield place[0]

    rows = list(stored())
    return missing_chunks(rows, array.shape, grid), len(rows)
