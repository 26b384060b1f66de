"""A tar archive of image files as a source: listed once, then read by offset; nothing unpacked."""

import tarfile
from collections.abc import Iterator
from typing import Any, cast

from service.scans.errors import ScanError, TileError
from service.scans.facts import Facts, parse_sidecar
from service.scans.sources import (
    Listed,
    SourceImage,
    TileRef,
    check_length,
    check_size,
    media_type,
    read_part,
    split_name,
)
from service.scans.stores import Store, printable, safe_name


class TarSource:
    """The regular members of an uncompressed tar archive."""

    def __init__(self, url: str, store: Store, name: str) -> None:
        """Take an archive.

        Args:
            url: What it was asked for by.
            store: Where it lies.
            name: Its name there.
        """
        self.url = url
        self.io_at_once = store.io_at_once
        self.io_per_thread = store.io_per_thread
        self._store = store
        self._name = name

    def listing(self) -> Iterator[Listed]:
        """See `Source`; two members of one name are refused."""
        entry = self._store.find(self._name)
        if entry is None:
            raise ScanError(f"{self.url} does not exist")
        try:
            with (
                self._store.open(self._name) as file,
                tarfile.open(fileobj=file, mode="r:") as archive,
            ):
                while (member := archive.next()) is not None:
                    # The archive keeps every member that it has seen: a million would fill memory.
                    cast("Any", archive).members.clear()
                    if member.isdir():
                        continue
                    name = safe_name(printable(member.name))
                    stem, suffix = split_name(name)
                    if not member.isreg() or member.sparse is not None:
                        suffix = ""  # a link or device: listed as what is no tile
                    yield Listed(
                        name,
                        stem,
                        suffix,
                        member.offset_data,
                        member.size,
                        f"{entry.stamp}:{member.offset_data}",
                    )
        except tarfile.TarError as error:
            raise ScanError(f"{self.url} is no uncompressed tar archive: {error}") from error
        except TileError as error:
            raise ScanError(f"{self.url}: {error}") from error

    def read(self, tile: TileRef) -> SourceImage:
        """See `Source`."""
        check_size(tile)
        facts: Facts = {}
        if tile.sidecar is not None:
            name, place, size_bytes = tile.sidecar
            content = read_part(self._store, self._name, start=place, length=size_bytes)
            facts = parse_sidecar(content, name)
        body = read_part(self._store, self._name, start=tile.place, length=tile.size_bytes)
        check_length(body, tile, self._name)
        return SourceImage(body, media_type(tile.name), None, None, facts)

    def close(self) -> None:
        """See `Source`."""
