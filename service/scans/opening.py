"""Opens the store and the source that a URL names.

A source is a folder of images (local or on an object store), a tar archive, one array of tiles (an
npy stack, a multi-page TIFF, an HDF5 dataset or a Zarr array), or the images that the defects of a
KLARF file name.
"""

import os
from pathlib import Path, PurePosixPath
from typing import Protocol

from service.images.media_types import TYPES_BY_SUFFIX
from service.scans.array_source import ArraySource
from service.scans.errors import ScanError, SourceMissingError
from service.scans.hdf5_array import open_hdf5
from service.scans.klarf_source import KlarfSource, is_klarf
from service.scans.local_store import LocalStore
from service.scans.npy_stack import open_npy
from service.scans.object_store import ObjectStore
from service.scans.sources import FolderSource, Source
from service.scans.stores import Store
from service.scans.tar_source import TarSource
from service.scans.tiff_source import TiffSource
from service.scans.zarr_array import open_zarr


class StoreOpener(Protocol):
    """Opens the store of a URL, such as `open_store`."""

    def __call__(self, url: str, *, patience_s: float) -> Store:
        """See `open_store`."""
        ...


def open_store(url: str, *, patience_s: float) -> Store:
    """Open a local folder (a path, or `file://…`) or an object store (any other scheme).

    Raises:
        ScanError: The scheme is unknown.
        MissingExtraError: A package that it needs is not installed.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStore(Path(url))
    if scheme == "file":
        return LocalStore(Path(rest))
    return ObjectStore(url, patience_s=patience_s)


def open_source(
    url: str, *, spool: Path, patience_s: float, open_store: StoreOpener = open_store
) -> Source:
    """Open a source by the suffix of its URL.

    Args:
        url: A path or URL of a folder, or of a file `.npy`, `.tif`, `.tiff`, `.h5`, `.hdf5`,
            `.tar`, a KLARF file (`klarf_source.is_klarf`) or a `.zarr`; after `::`, the dataset or
            array within HDF5 or Zarr.
        spool: Folder for the copy of an HDF5 or TIFF file from an object store.
        patience_s: See `open_store`.
        open_store: Function that opens the store of the URL.

    Raises:
        ScanError: The source does not exist, or has no tiles.
        MissingExtraError: A package that it needs is not installed.
    """
    path, _, inner = url.rstrip("/").partition("::")
    name = PurePosixPath(path).name
    suffix = PurePosixPath(name).suffix.lower()
    store = open_store(path, patience_s=patience_s)
    if suffix == ".zarr":
        if isinstance(store, LocalStore) and not os.path.exists(store.root):  # noqa: PTH110 (as below)
            raise SourceMissingError(f"the source {url} does not exist")
        store.check_whole()
        return ArraySource(url, name, open_zarr(path, inner))
    if is_klarf(name) and not _is_folder(store):
        return KlarfSource(
            url, _store_around(path, name, patience_s, open_store), name, spool=spool
        )
    if suffix not in {".npy", ".tif", ".tiff", ".h5", ".hdf5", ".tar"}:
        if inner:
            raise ScanError(f"{url}: only HDF5 and Zarr have an inner name (after ::)")
        if suffix in TYPES_BY_SUFFIX:
            raise ScanError(f"{url} is one image; `semsr upscale` is for that")
        if isinstance(store, LocalStore) and not os.path.isdir(store.root):  # noqa: PTH112 (Path's raises)
            raise SourceMissingError(_not_a_source(url, store.root))
        return FolderSource(store)
    store = _store_around(path, name, patience_s, open_store)
    if store.find(name) is None:
        raise SourceMissingError(f"the source {url} does not exist")
    if suffix == ".npy":
        return ArraySource(url, name, open_npy(store, name), io_at_once=store.io_at_once)
    if suffix == ".tar":
        return TarSource(url, store, name)
    if suffix in {".tif", ".tiff"}:
        return TiffSource(url, store, name, spool=spool)
    return ArraySource(url, name, open_hdf5(store, name, inner, spool=spool))


def _is_folder(store: Store) -> bool:
    """Return whether a local folder exists; `lot.001` may also be the name of one."""
    return isinstance(store, LocalStore) and os.path.isdir(store.root)  # noqa: PTH112 (as above)


def _store_around(path: str, name: str, patience_s: float, open_store: StoreOpener) -> Store:
    """Open the store of the folder that a file is in."""
    folder = path.removesuffix(name).rstrip("/") or ("/" if path.startswith("/") else ".")
    return open_store(folder, patience_s=patience_s)


def _not_a_source(url: str, path: Path) -> str:
    if not os.path.lexists(path):
        return f"the source {url} does not exist"
    if path.name.lower().endswith((".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst", ".zip")):
        return f"the source {url} is compressed; unpack it to a .tar or a folder"
    return f"the source {url} is neither a folder nor a known container of tiles"
