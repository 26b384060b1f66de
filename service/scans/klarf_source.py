"""A KLARF file as a source: the tiles are the images that its defects name, and no others."""

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from service.ground.errors import ServiceError
from service.images.codec.tiff_pages import page_places
from service.scans.errors import ScanError, SourceMissingError, TileError
from service.scans.facts import MAX_SIDECAR_BYTES, Facts, sidecar_facts
from service.scans.klarf.defects import Defect
from service.scans.klarf.document import Limits
from service.scans.klarf.errors import KlarfError
from service.scans.klarf.klarf import Klarf, read_klarf
from service.scans.klarf.values import ImageRef
from service.scans.klarf_facts import MOST_DEFECTS, image_facts
from service.scans.klarf_files import ImageFile, ImageFiles, check_apart, is_tiff
from service.scans.sources import (
    SIDECAR_SUFFIX,
    Listed,
    SourceImage,
    TileRef,
    check_size,
    indexed_name,
    media_type,
    split_name,
)
from service.scans.stores import FileEntry, Store
from service.scans.tiff_source import TiffSource

KLARF_SUFFIXES = (".klarf", ".kla", ".krf")
# Tools also number their result files: lot7.001.
_NUMBERED = re.compile(r"\.\d{3}")
_MOST_PAGES = 10_000_000
# Open files with several images; the images of a file are read one after another.
_MOST_OPEN = 8


def is_klarf(name: str) -> bool:
    """Return whether a file is named like a KLARF file."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in KLARF_SUFFIXES or _NUMBERED.fullmatch(suffix) is not None


@dataclass(slots=True)
class _Tile:
    """An image that defects name.

    Attributes:
        listed: Its item in the listing.
        file: Name of its file.
        page: Index of the image in a file with several, or None.
        sidecar: Its sidecar, or None.
        defects: First defects that name it.
        num_defects: Number of all defects that name it.
    """

    listed: Listed
    file: str
    page: int | None
    sidecar: FileEntry | None
    defects: list[Defect] = field(default_factory=list[Defect])
    num_defects: int = 0

    def add(self, defect: Defect) -> None:
        """Add a defect that names it; the same defect may do so twice."""
        if self.defects and self.defects[-1] is defect:
            return
        self.num_defects += 1
        if len(self.defects) < MOST_DEFECTS:
            self.defects.append(defect)


class KlarfSource:
    """The images that the defects of one KLARF file name, in the folder of the file or below it.

    Attributes:
        klarf: The file.
        name: Name of the file.
        images_of: For each defect, in the order of the file, the names of its tiles.
    """

    def __init__(self, url: str, store: Store, name: str, *, spool: Path) -> None:
        """Read the file and find the images.

        Args:
            url: URL that it was opened by.
            store: Store of the file and its images.
            name: Name of the file in the store.
            spool: Folder for copies of TIFF files from an object store.

        Raises:
            SourceMissingError: The file does not exist.
            ScanError: The file is malformed or too long; the message names the line.
        """
        self.url = url
        self.io_at_once = store.io_at_once
        self.io_per_thread = store.io_per_thread
        self.notes: list[str] = []
        self.name = name
        self.images_of: list[Sequence[str]] = []
        self._store = store
        self._spool = spool
        self._open: OrderedDict[str, TiffSource] = OrderedDict()
        self._lock = threading.Lock()
        self.klarf = self._read_file()
        self._tiles = self._find_tiles()

    def listing(self) -> Iterator[Listed]:
        """See `Source`."""
        for tile in self._tiles.values():
            yield tile.listed
            if tile.sidecar is not None:
                entry = tile.sidecar
                stem = tile.listed.stem
                yield Listed(entry.name, stem, SIDECAR_SUFFIX, 0, entry.size_bytes, entry.stamp)

    def facts(self, name: str) -> Facts:
        """Return the facts of a tile from the defects that name it, without those of its sidecar.

        Raises:
            TileError: No defect names it.
        """
        known = self._known(name)
        return image_facts(known.defects, known.num_defects)

    def read(self, tile: TileRef) -> SourceImage:
        """See `Source`; a page of a TIFF becomes a separate TIFF."""
        check_size(tile)
        known = self._known(tile.name)
        facts = self.facts(tile.name)
        if known.sidecar is not None:
            entry = known.sidecar
            content = b""
            if entry.size_bytes <= MAX_SIDECAR_BYTES:
                content = self._store.read(entry.name, length=MAX_SIDECAR_BYTES + 1)
            facts = {**facts, **sidecar_facts(content, entry.name, entry.size_bytes)}
        if known.page is None:
            body = self._store.read(known.file)
            if not is_tiff(known.file) or _num_pages(body) <= 1:
                return SourceImage(body, media_type(known.file), None, None, facts)
        image = self._read_page(known.file, known.page or 0)
        return SourceImage(image.body, image.media_type, None, None, facts)

    def close(self) -> None:
        """See `Source`."""
        with self._lock:
            self._open.clear()

    def _known(self, name: str) -> _Tile:
        known = self._tiles.get(name)
        if known is None:
            raise TileError(f"is not named by a defect of {self.name}")
        return known

    def _read_file(self) -> Klarf:
        entry = self._store.find(self.name)
        if entry is None:
            raise SourceMissingError(f"the source {self.url} does not exist")
        most = Limits().file_bytes
        if entry.size_bytes > most:
            raise ScanError(f"{self.url} has {entry.size_bytes} bytes; expected at most {most}")
        try:
            return read_klarf(self._store.read(self.name))
        except KlarfError as error:
            raise ScanError(f"{self.url}, {error}") from error
        except TileError as error:
            raise ScanError(f"{self.url} {error}") from error

    def _find_tiles(self) -> dict[str, _Tile]:
        files: dict[str, set[int]] = {}
        num_without = 0
        for defect in self.klarf.defects():
            num_without += not defect.images
            for image in defect.images:
                files.setdefault(image.file, set()).add(image.number or 1)
        if num_without:
            total = self.klarf.num_defects
            self.notes.append(f"{num_without} of {total} defects name no image")
        images = ImageFiles(self._store)
        found = {written: images.find_written(written) for written in files}
        check_apart(self.url, self.name, found)
        pages = {
            written: self._count_pages(file.name)
            for written, file in found.items()
            if file.entry is not None and is_tiff(file.name) and files[written] != {1}
        }
        tiles: dict[str, _Tile] = {}
        for defect in self.klarf.defects():
            names: list[str] = []
            for image in defect.images:
                tile = self._tile(images, found[image.file], pages.get(image.file), image)
                tile = tiles.setdefault(tile.listed.name, tile)
                tile.add(defect)
                names.append(tile.listed.name)
            self.images_of.append(tuple(names))
        return tiles

    def _count_pages(self, name: str) -> int | None:
        try:
            return self._tiff(name).num_images
        except ScanError:
            return None  # reading the tile reports it

    @staticmethod
    def _tile(images: ImageFiles, file: ImageFile, pages: int | None, image: ImageRef) -> _Tile:
        stem, suffix = split_name(file.name)
        entry = file.entry
        size_bytes, stamp = (0, "") if entry is None else (entry.size_bytes, entry.stamp)
        if pages is None or pages == 1:
            sidecar = None if entry is None else images.find(f"{stem}{SIDECAR_SUFFIX}")
            listed = Listed(file.name, stem, suffix, 0, size_bytes, stamp)
            return _Tile(listed, file.name, None, sidecar)
        page = (1 if image.number is None else image.number) - 1
        # A number below 1 has no place in an index; reading the tile reports it.
        place = page if page >= 0 else pages
        size_bytes //= pages
        listed = Listed(
            indexed_name(file.name, place), f"{stem}/{place:08d}", suffix, place, size_bytes, stamp
        )
        return _Tile(listed, file.name, page, None)

    def _read_page(self, name: str, page: int) -> SourceImage:
        try:
            source = self._tiff(name)
        except ScanError as error:
            raise TileError(str(error)) from error
        if not 0 <= page < source.num_images:
            expected = f"1 to {source.num_images}"
            raise TileError(f"image {page + 1} of {name} does not exist; expected {expected}")
        return source.read(TileRef(name, name, page, 0))

    def _tiff(self, name: str) -> TiffSource:
        with self._lock:
            source = self._open.get(name)
            if source is None:
                source = TiffSource(f"{self.url}: {name}", self._store, name, spool=self._spool)
                self._open[name] = source
            self._open.move_to_end(name)
            # A mapping ends with its last reader.
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            return source


def _num_pages(body: bytes) -> int:
    try:
        return len(page_places(memoryview(body), most=_MOST_PAGES))
    except ServiceError:
        return 1  # decoding the tile reports it
