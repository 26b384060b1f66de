"""The sources of a scan: their protocol, and the most common source, a folder of images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from service.images.media_types import TYPES_BY_SUFFIX
from service.scans.errors import StoreLostError, TileError
from service.scans.facts import MAX_SIDECAR_BYTES, Facts, sidecar_facts
from service.scans.stores import Store

SIDECAR_SUFFIX = ".json"
MAX_TILE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Listed:
    """One item of a source's listing.

    Attributes:
        name: Name in the manifest, unique in the source.
        stem: Name of its output without scale and suffix; a sidecar has the stem of its tile.
        suffix: Suffix of a tile, `.json` for a sidecar, any other for other files.
        place: Index or byte offset in a container.
        size_bytes: Stored length.
        stamp: Text that changes with its content.
    """

    name: str
    stem: str
    suffix: str
    place: int
    size_bytes: int
    stamp: str

    @property
    def is_tile(self) -> bool:
        """Whether it is a tile."""
        return self.suffix.lower() in TYPES_BY_SUFFIX

    @property
    def is_sidecar(self) -> bool:
        """Whether it holds the facts of the tile of the same stem."""
        return self.suffix.lower() == SIDECAR_SUFFIX


@dataclass(frozen=True, slots=True)
class TileRef:
    """A tile to read.

    Attributes:
        name: See `Listed`.
        stem: See `Listed`.
        place: See `Listed`.
        size_bytes: See `Listed`.
        sidecar: Name, place and length of its sidecar, or None.
    """

    name: str
    stem: str
    place: int
    size_bytes: int
    sidecar: tuple[str, int, int] | None = None


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A tile as it was read.

    Attributes:
        body: Content of the file, or raw little-endian pixels.
        media_type: Media type of the body.
        shape: (H, W) of raw pixels, else None.
        dtype: Data type of raw pixels, uint8 or uint16, else None.
        facts: Its facts.
    """

    body: bytes
    media_type: str
    shape: tuple[int, int] | None
    dtype: str | None
    facts: Facts


class Source(Protocol):
    """Lists tiles, and reads them from any thread.

    Attributes:
        url: URL that it was opened by.
        io_at_once: Number of parallel reads that pays off.
        io_per_thread: Number of parallel reads that share one thread.
        notes: Flaws of the source that make no tile fail; complete after the listing.
    """

    url: str
    io_at_once: int
    io_per_thread: int
    notes: list[str]

    def listing(self) -> Iterator[Listed]:
        """List tiles, sidecars and other items, in no particular order.

        Raises:
            ScanError: The source cannot be listed.
            SourceDamagedError: It cannot be listed to its end; the items before have been listed.
        """
        ...

    def read(self, tile: TileRef) -> SourceImage:
        """Read one tile.

        Raises:
            TileError: This tile cannot be read.
            StoreLostError: The source does not answer.
        """
        ...

    def close(self) -> None:
        """Close the source."""
        ...


class FolderSource:
    """A folder of image files, with all folders below it."""

    def __init__(self, store: Store) -> None:
        self.url = store.url
        self.io_at_once = store.io_at_once
        self.io_per_thread = store.io_per_thread
        self.notes: list[str] = []
        self._store = store

    def listing(self) -> Iterator[Listed]:
        """See `Source`."""
        for entry in self._store.walk():
            stem, suffix = split_name(entry.name)
            yield Listed(entry.name, stem, suffix, 0, entry.size_bytes, entry.stamp)

    def read(self, tile: TileRef) -> SourceImage:
        """See `Source`."""
        check_size(tile)
        facts: Facts = {}
        if tile.sidecar is not None:
            name, _, size_bytes = tile.sidecar
            content = b""
            if size_bytes <= MAX_SIDECAR_BYTES:
                # One byte more than the limit, so that a file that has grown is not cut.
                content = self._store.read(name, length=MAX_SIDECAR_BYTES + 1)
            if len(content) > MAX_SIDECAR_BYTES and (entry := self._store.find(name)) is not None:
                size_bytes = entry.size_bytes
            facts = sidecar_facts(content, name, size_bytes)
        body = self._store.read(tile.name)
        return SourceImage(body, media_type(tile.name), None, None, facts)

    def close(self) -> None:
        """See `Source`."""


def split_name(name: str) -> tuple[str, str]:
    """Return a name without its suffix, and the suffix."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix), suffix


def media_type(name: str) -> str:
    """Return the media type of a file by its suffix."""
    return TYPES_BY_SUFFIX[PurePosixPath(name).suffix.lower()]


def indexed_name(name: str, index: int) -> str:
    """Return the name of one tile of a container; names sort in the order of indices."""
    return f"{name}[{index:08d}]"


def check_size(tile: TileRef) -> None:
    """Reject a file that is too large to be read into memory.

    Raises:
        TileError: It is longer than `MAX_TILE_BYTES`.
    """
    if tile.size_bytes > MAX_TILE_BYTES:
        raise TileError(f"has {tile.size_bytes} bytes; expected at most {MAX_TILE_BYTES}")


def read_part(store: Store, name: str, *, start: int, length: int) -> bytes:
    """Read a part of a container.

    Raises:
        TileError: It cannot be read.
        StoreLostError: The store does not answer, or the whole container is gone.
    """
    try:
        return store.read(name, start=start, length=length)
    except TileError as error:
        if store.find(name) is None:
            raise StoreLostError(f"{store.url}/{name} is gone") from error
        raise


def check_length(content: bytes, tile: TileRef, container: str) -> None:
    """Reject a tile that is cut off by the end of its container.

    Raises:
        TileError: It is shorter than listed.
    """
    if len(content) != tile.size_bytes:
        raise TileError(
            f"{container} ends within it: {len(content)} of {tile.size_bytes} bytes are there"
        )
