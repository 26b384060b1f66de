"""A TIFF of many images as a source; the service's own codec decodes each image.

An image is a page, or one of several planes of a directory (`service.images.codec.tiff_planes`).
"""

import contextlib
import mmap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from service.ground.errors import ServiceError
from service.images import codec
from service.images.codec.image import DecodeOptions
from service.images.codec.tiff_decode import decode_page
from service.images.codec.tiff_encode import encode_tiff
from service.images.codec.tiff_pages import page_places, read_page
from service.images.metadata import ImageMetadata
from service.images.metadata.imagej import is_imagej
from service.images.metadata.ome import is_ome
from service.images.metadata.tiff import IMAGE_DESCRIPTION
from service.scans.errors import ScanError, TileError
from service.scans.local_copy import local_copy
from service.scans.sources import Listed, SourceImage, TileRef, indexed_name, split_name
from service.scans.stores import Store

_TIFF = "image/tiff"
_MAX_PAGES = 10_000_000
# Limit of the decoder; the upscaler checks each image again by its own, smaller limit.
_MAX_PIXELS = 1 << 28


class TiffSource:
    """The images of one TIFF or BigTIFF, mapped into memory."""

    def __init__(self, url: str, store: Store, name: str, *, spool: Path) -> None:
        """Find the images.

        Args:
            url: URL that it was opened by.
            store: Store of the file.
            name: Name of the file in the store.
            spool: Folder for the copy of a file from an object store.

        Raises:
            ScanError: It is not a TIFF, or damaged.
        """
        self.url = url
        self.io_at_once = 4
        self.io_per_thread = 1
        self.notes: list[str] = []
        self._name = name
        entry = store.find(name)
        self._stamp = "" if entry is None else entry.stamp
        try:
            path = local_copy(store, name, spool)
            with path.open("rb") as file:
                if path.is_relative_to(spool):
                    path.unlink()  # a copy: the mapping keeps it
                    with contextlib.suppress(OSError):
                        spool.rmdir()  # unless it has other files
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._body = memoryview(mapped)
            self._places = page_places(self._body, most=_MAX_PAGES)
        except (OSError, ValueError, ServiceError) as error:
            raise ScanError(f"{url} cannot be read as TIFF: {error}") from error
        self._first: ImageMetadata | None = None

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self._places)

    def listing(self) -> Iterator[Listed]:
        """See `Source`."""
        stem, suffix = split_name(self._name)
        page_bytes = len(self._body) // max(1, len(self._places))
        for index in range(len(self._places)):
            yield Listed(
                indexed_name(self._name, index),
                f"{stem}/{index:08d}",
                suffix,
                index,
                page_bytes,
                self._stamp,
            )

    def read(self, tile: TileRef) -> SourceImage:
        """See `Source`; the body is the page as a separate TIFF."""
        try:
            image = self._image(tile.place)
            if self._first is None:
                self._first = self._image(0).metadata
        except Exception as error:  # the service's errors, and any error of a decompressor
            raise TileError(str(error)) from error
        # OME and ImageJ state the size of all pages in the first one's description.
        metadata = image.metadata
        if metadata.pixel_size is None:
            metadata = replace(metadata, pixel_size=self._first.pixel_size)
        body = encode_tiff(image.pixels, metadata, white_is_zero=image.white_is_zero)
        return SourceImage(body, _TIFF, None, None, {})

    def close(self) -> None:
        """See `Source`; the mapping ends with its last view."""

    def _image(self, index: int) -> codec.DecodedImage:
        page = read_page(self._body, self._places[index])
        image = decode_page(page, DecodeOptions(None, None, _MAX_PIXELS))
        metadata = image.metadata
        if len(self._places) > 1:
            # The description of a stack would be wrong in the file of one page.
            metadata = replace(
                metadata,
                tiff_texts=tuple(
                    text
                    for text in metadata.tiff_texts
                    if text.code != IMAGE_DESCRIPTION
                    or not (is_ome(text.value) or is_imagej(text.value))
                ),
            )
        return replace(image, metadata=metadata)
