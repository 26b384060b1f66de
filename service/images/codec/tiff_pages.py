"""The images of a TIFF file, one after another: all images of each directory.

Used by single requests, batches, scans and training, for which a page of its own and one of several
planes in a directory (`tiff_planes`) look the same.
"""

from array import array
from collections.abc import Iterator

from service.ground.errors import UnsuitableImage
from service.images.codec.tiff_planes import count_images, image_of, images_stated
from service.images.codec.tiff_structure import Directory, directory_at, walk

_MAX_PAGES = 16


class PagePlaces:
    """Positions of the images of a TIFF, in order: 12 bytes an image."""

    def __init__(self) -> None:
        self._offsets, self._planes = array("Q"), array("L")

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Return the offset of an image's directory, and the index of the image in it."""
        return self._offsets[index], self._planes[index]

    def append(self, offset: int, plane: int) -> None:
        """Add an image."""
        self._offsets.append(offset)
        self._planes.append(plane)


def read_pages(body: memoryview) -> list[Directory]:
    """Return the images of a classic or Big TIFF, without thumbnails and masks.

    Raises:
        InvalidImage: The header or a directory is damaged, the chain of directories is a loop, or
            the file ends within the images that a directory states.
        UnsuitableImage: There are very many images.
    """
    return list(iterate_pages(body, most=_MAX_PAGES))


def iterate_pages(body: memoryview, *, most: int) -> Iterator[Directory]:
    """Yield the images one at a time, without thumbnails and masks.

    Args:
        body: Whole file.
        most: Maximum number of images.

    Raises:
        InvalidImage: See `read_pages`; raised when the damage is reached.
        UnsuitableImage: There are more images than `most`.
    """
    for _, page, plane in _images(body, most=most):
        yield image_of(page, plane)


def page_places(body: memoryview, *, most: int) -> PagePlaces:
    """Return the positions of the images; see `read_page`.

    Args:
        body: Whole file.
        most: Maximum number of images.

    Raises:
        InvalidImage: See `read_pages`.
        UnsuitableImage: There are more images.
    """
    places = PagePlaces()
    for offset, _, plane in _images(body, most=most):
        places.append(offset, plane)
    return places


def read_page(body: memoryview, place: tuple[int, int]) -> Directory:
    """Read one image's directory, as `page_places` found it.

    Raises:
        InvalidImage: It is damaged.
    """
    offset, plane = place
    return image_of(directory_at(body, offset), plane)


def _images(body: memoryview, *, most: int) -> Iterator[tuple[int, Directory, int]]:
    """Yield each image: offset of its directory, the directory, and the image's index in it."""
    count = 0
    for offset, page, alone in _directories(body, most=most):
        images = count_images(page, alone=alone)
        count += images
        if count > most:
            raise UnsuitableImage(f"the TIFF holds more than {most} images")
        for plane in range(images):
            yield offset, page, plane


def _directories(body: memoryview, *, most: int) -> Iterator[tuple[int, Directory, bool]]:
    """Yield the directories of images, and whether each is the file's only directory.

    A thumbnail or a mask counts too: a program that writes them has read the images one by one, and
    copied a description that states several. One directory is looked ahead only where it matters,
    so that damage further on costs no image before it.
    """
    directories = walk(body, most=most)
    is_first = True
    for offset, page in directories:
        if page.is_image:
            following = next(directories, None) if is_first and images_stated(page) else None
            yield offset, page, is_first and following is None
            if following is not None and following[1].is_image:
                yield *following, False
        is_first = False
