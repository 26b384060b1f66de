"""A local path for a file of any store, for libraries that open paths."""

import secrets
import tempfile
from pathlib import Path, PurePosixPath

from service.scans.errors import ScanError, TileError
from service.scans.object_store import ObjectStore
from service.scans.stores import Store


def local_copy(store: Store, name: str, spool: Path) -> Path:
    """Return the local path of a file; a file on an object store is copied first.

    Raises:
        ScanError: It cannot be read.
    """
    path = store.local_path(name)
    if path is not None:
        return path
    assert isinstance(store, ObjectStore)  # noqa: S101 (the only other kind)
    spool.mkdir(parents=True, exist_ok=True)
    # Files of several folders may have the same name; the suffix counts for some libraries.
    copy = spool / f"{secrets.token_hex(8)}-{PurePosixPath(name).name}"
    try:
        store.download(name, copy)
    except TileError as error:
        raise ScanError(f"{store.url}/{name} {error}") from error
    return copy


def temporary_spool() -> Path:
    """Return a folder for copies of a process without a work folder; it is made when needed."""
    return Path(tempfile.gettempdir()) / f"semsr-scan-{secrets.token_hex(8)}"
