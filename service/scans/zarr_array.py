"""An array of a Zarr store (v2 and v3) as an array of tiles."""

import hashlib
import json
import re
from typing import Any

from engines.installation import install_hint
from service.scans.array_source import TileArray
from service.scans.errors import ScanError
from service.scans.extras import load_extra
from service.scans.stored_chunks import StoredChunks
from service.scans.tile_arrays import (
    LabelledArray,
    Members,
    reason_of,
)

_METADATA = ("zarr.json", ".zarray", ".zgroup")


def open_zarr(path: str, inner: str) -> TileArray:
    """Open an array of a Zarr store, local or on an object store.

    Args:
        path: Path or URL of the store.
        inner: Path of the array within it, or empty for the only one with tiles.

    Raises:
        ScanError: The array does not exist, or has no tiles.
    """
    zarr = load_extra("zarr", purpose=f"the Zarr store {path}")
    root = _open_root(zarr, path.removeprefix("file://"), path)
    if isinstance(root, zarr.Array):
        if inner:
            raise ScanError(f"{path} is one array; it has no {inner!r}")
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
        members.siblings(chosen),
        stamp=stamp,
        find_stored=lambda: _stored(zarr, array),
    )


def _open_root(zarr: Any, place: str, path: str) -> Any:
    try:
        return zarr.open(place, mode="r")
    except ImportError as error:
        raise ScanError(f"{path}: {error}; {install_hint('scan')}") from error
    except Exception as error:  # zarr and the stores below it share no base class
        try:
            # Consolidated metadata are read as one: a member unknown to zarr makes all unreadable.
            return zarr.open_group(place, mode="r", use_consolidated=False)
        except Exception:  # the first error says what is wrong
            raise ScanError(f"{path} cannot be opened as Zarr: {error}") from error


def _members(zarr: Any, root: Any) -> Members:
    """Find the arrays; if a member is damaged, open the members one by one."""
    try:
        found = dict(root.members(max_depth=None))
    except Exception:  # the damaged member is found again, with its path
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
    """Return the sorted names of the members of a group that have metadata."""
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


def _stored(zarr: Any, array: Any) -> StoredChunks | None:
    """Return which chunks (or shards) are stored.

    Returns None if the store cannot list its keys.
    """
    store, path = array.store_path.store, array.store_path.path
    if not store.supports_listing or 0 in array.shape:
        return None
    prefix = f"{path}/" if path else ""
    axes = len(array.shape)

    async def rows() -> list[int]:
        found: list[int] = []
        async for key in store.list_prefix(prefix):
            name = key.removeprefix(prefix)
            place = re.split("[./]", name)[-axes:]
            if len(place) == axes and all(map(str.isdecimal, place)):
                coordinates = tuple(map(int, place))
                if array.metadata.encode_chunk_key(coordinates) == name:
                    found.append(coordinates[0])
        return found

    try:
        found = zarr.core.sync.sync(rows())
    except Exception:  # reading the tiles will show the problem of the store
        return None
    return StoredChunks(found, array.shape, array.shards or array.chunks)
