"""A dataset of an HDF5 file as an array of tiles."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from service.scans.array_source import TileArray
from service.scans.errors import ScanError
from service.scans.extras import load_extra
from service.scans.facts import text
from service.scans.local_copy import local_copy
from service.scans.stored_chunks import StoredChunks
from service.scans.stores import Store
from service.scans.tile_arrays import (
    LabelledArray,
    Members,
    reason_of,
)


def open_hdf5(store: Store, name: str, inner: str, *, spool: Path) -> TileArray:
    """Open a dataset of an HDF5 file; a file on an object store is copied first.

    Args:
        store: Store of the file.
        name: Name of the file in the store.
        inner: Path of the dataset, or empty for the only one with tiles.
        spool: Folder for the copy.

    Raises:
        ScanError: The dataset does not exist, or has no tiles.
    """
    h5py = load_extra("h5py", purpose=f"the HDF5 file {name}")
    path = local_copy(store, name, spool)
    entry = store.find(name)
    where = f"{store.url}/{name}"
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ScanError(f"{where} cannot be opened as HDF5: {error}") from error
    try:
        members = _members(h5py, file, is_confined=store.is_confined)
        chosen = members.choose(inner, where)
        dataset = members.arrays[chosen]
        return LabelledArray(
            name,
            dataset,
            members.siblings(chosen),
            stamp="" if entry is None else entry.stamp,
            find_stored=lambda: _stored(dataset, f"{where}::{chosen}"),
            file=file,
        )
    except Exception:
        file.close()
        raise


def _members(h5py: Any, file: Any, *, is_confined: bool) -> Members:
    """Find the datasets, each once; soft and external links are listed as unusable."""
    members = Members()
    waiting: list[tuple[str, Any]] = [("", file)]
    seen: set[Any] = set()
    while waiting:
        folder, group = waiting.pop()
        for path, item, reason in _children(h5py, folder, group):
            if reason is not None:
                members.unusable[path] = reason
                continue
            try:
                address = h5py.h5o.get_info(item.id).addr
            except Exception as error:  # as in `_children`
                members.unusable[path] = reason_of(error)
                continue
            if address in seen:
                continue  # one more hard link
            seen.add(address)
            if isinstance(item, h5py.Group):
                waiting.append((path, item))
            elif isinstance(item, h5py.Dataset):
                reason = _why_unusable(h5py, item, is_confined=is_confined)
                if reason is None:
                    members.arrays[path] = item
                else:
                    members.unusable[path] = reason
    return members


def _children(h5py: Any, folder: str, group: Any) -> Iterator[tuple[str, Any, str | None]]:
    """Yield path, object and None for each member of a group, or path, None and the problem."""
    try:
        names = list(group)
    except Exception as error:  # h5py raises many kinds for a damaged group
        yield folder, None, f"its group cannot be listed: {reason_of(error)}"
        return
    for name in names:
        path = f"{folder}/{text(name)}" if folder else text(name)
        try:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.HardLink):
                yield path, group[name], None
            else:
                kind = "an external" if isinstance(link, h5py.ExternalLink) else "a soft"
                yield path, None, f"it is {kind} link to {link.path}, which is not followed"
        except Exception as error:  # KeyError, TypeError, OSError, RuntimeError
            yield path, None, reason_of(error)


def _why_unusable(h5py: Any, dataset: Any, *, is_confined: bool) -> str | None:
    """Return why a dataset can be neither tiles nor facts of tiles, or None if it can."""
    try:
        if dataset.shape is None:
            return "it has no dataspace (an empty dataset)"
        if is_confined and (dataset.is_virtual or dataset.external):
            # Their pixels lie in other files, named by this one.
            return (
                "it lies in other files (virtual or external), which a confined scan does not "
                "follow; copy it into one file"
            )
        np.dtype(dataset.dtype)
        plan = dataset.id.get_create_plist()
        for index in range(plan.get_nfilters()):
            code, _, _, label = plan.get_filter(index)
            if not h5py.h5z.filter_avail(code):
                return f"its filter {code} ({label.decode('utf-8', 'replace')}) is not installed"
    except Exception as error:  # what h5py raises for types that it does not know
        return reason_of(error)
    return None


def _stored(dataset: Any, where: str) -> StoredChunks | None:
    """Return which chunks are stored; None if the pixels lie in other files.

    Raises:
        ScanError: The dataset stores fewer bytes than its shape needs.
    """
    if dataset.is_virtual or dataset.external or 0 in dataset.shape:
        return None
    if dataset.chunks is None:
        stored_bytes = dataset.id.get_storage_size()
        needed_bytes = math.prod(dataset.shape) * dataset.dtype.itemsize
        if stored_bytes not in {0, needed_bytes}:
            raise ScanError(
                f"{where} has the shape {dataset.shape}, which needs {needed_bytes} bytes, and "
                f"stores {stored_bytes}: it is damaged"
            )
        return StoredChunks([0] if stored_bytes else [], dataset.shape, dataset.shape)
    rows: list[int] = []

    def note(info: Any) -> None:
        rows.append(info.chunk_offset[0] // dataset.chunks[0])

    try:
        dataset.id.chunk_iter(note)
    except Exception as error:  # h5py raises many kinds for a damaged index
        raise ScanError(f"{where}: its chunks cannot be listed: {reason_of(error)}") from error
    return StoredChunks(rows, dataset.shape, dataset.chunks)
