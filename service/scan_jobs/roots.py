"""The folders and prefixes that scans may read and write, as allowed by the operator."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from service.scans.confined_store import ConfinedObjectStore, ConfinedStore, containing
from service.scans.errors import OutsideRootsError
from service.scans.stores import Store

_MAX_URL_CHARS = 4096
# Bytes of one part of a path; no file system of Linux allows more.
_MAX_NAME_BYTES = 255
# Time limit in seconds for an object store to answer while a client waits.
_OPEN_PATIENCE_S = 5.0


class Roots:
    """The allowed folders and prefixes."""

    def __init__(self, roots: Sequence[str], *, closed: Path) -> None:
        """Store the roots; the folders need not exist yet.

        Args:
            roots: Absolute folders, and prefixes `scheme://bucket/prefix`.
            closed: Folder of the service's own state, which is never allowed, even within a root.
        """
        self._folders = [Path(root) for root in roots if "://" not in root]
        self._prefixes = [root for root in roots if "://" in root]
        self._closed = closed

    def check(self, url: str) -> str:
        """Return an allowed path with links resolved, or an allowed URL.

        Raises:
            OutsideRootsError: It lies in no allowed folder.
        """
        place, separator, inner = url.rstrip("/").partition("::")
        scheme, is_url, rest = place.partition("://")
        if len(url) > _MAX_URL_CHARS or any(ord(letter) < 32 for letter in url):
            raise OutsideRootsError(f"{url[:80]!r} is not a path or URL")
        parts = [*place.split("/"), *inner.split("/")]
        if any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in parts):
            raise OutsideRootsError(f"{url[:80]}… has a name of more than {_MAX_NAME_BYTES} bytes")
        if ".." in parts or "." in parts:
            raise OutsideRootsError(f"{url} holds the part . or ..; write the path without")
        if is_url and scheme != "file":
            if not any(f"{place}/".startswith(f"{prefix}/") for prefix in self._prefixes):
                raise OutsideRootsError(self._refusal(url))
            return f"{place}{separator}{inner}"
        path = Path(rest if is_url else place)
        if not path.is_absolute():
            raise OutsideRootsError(f"{url} is not an absolute path")
        real = Path(os.path.realpath(path))
        closed = Path(os.path.realpath(self._closed))
        if containing(real, self._real_folders()) is None or real.is_relative_to(closed):
            raise OutsideRootsError(self._refusal(url))
        return f"{real}{separator}{inner}"

    def stores(self, on_entry: Callable[[], None]) -> "RootedStores":
        """Return an opener of stores within the roots.

        Args:
            on_entry: Callback for every listed file; an exception ends the listing.
        """
        return RootedStores(self, self._real_folders(), on_entry)

    def open(self, folder: str, name: str) -> BinaryIO:
        """Open a file in an allowed folder or prefix for reading.

        Raises:
            OutsideRootsError: It lies in no allowed folder.
            ScanError, OSError: It cannot be opened.
        """
        stores = self.stores(lambda: None)
        try:
            return stores(folder, patience_s=_OPEN_PATIENCE_S).open(name)
        finally:
            stores.close()

    def _real_folders(self) -> list[Path]:
        return [Path(os.path.realpath(folder)) for folder in self._folders]

    def _refusal(self, url: str) -> str:
        allowed = ", ".join([*map(str, self._folders), *self._prefixes])
        return f"{url} lies outside what scans may use here; allowed are {allowed}"


class RootedStores:
    """Opens stores within the roots, and closes them; see `service.scans.opening.StoreOpener`."""

    def __init__(self, roots: Roots, folders: Sequence[Path], on_entry: Callable[[], None]) -> None:
        self._roots = roots
        self._folders = folders
        self._on_entry = on_entry
        self._opened: list[ConfinedStore] = []

    def __call__(self, url: str, *, patience_s: float) -> Store:
        """Open a store.

        Raises:
            OutsideRootsError: It lies in no allowed folder.
            ScanError: The scheme is unknown.
        """
        place = self._roots.check(url)
        if "://" in place:
            return ConfinedObjectStore(place, patience_s=patience_s, on_entry=self._on_entry)
        store = ConfinedStore(Path(place), self._folders, on_entry=self._on_entry)
        self._opened.append(store)
        return store

    def close(self) -> None:
        """Close the opened stores."""
        for store in self._opened:
            store.close()
