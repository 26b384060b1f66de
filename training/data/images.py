"""Reading of image files for training; all files are checked before the training starts.

Files are named by folders or globs; PNG, TIFF, BMP and JPEG files of mixed sizes are accepted. One
error names all bad files, up to a limit, so that a folder can be repaired at once.

The service's codec reads the bytes and its window maps 16-bit values to 8 bits, so that training
and production see the same greys (docs/adr/0022). No other module of training imports the service;
the imported parts need no web framework.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.ground.errors import ServiceError
from service.images.codec import DecodedImage, decode_images, media_type_of
from service.images.codec.sniffing import describe_start
from service.images.window import FULL_RANGE, to_uint8

MEDIA_TYPES = {
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".bmp": "image/bmp",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
"""Media type of a file by its suffix, as in a scan."""

IMAGE_SUFFIXES = frozenset(MEDIA_TYPES)
FULL_WINDOW = FULL_RANGE
"""16-bit values mapped to black and white. They are fixed: with a tile's own extremes, one bright
particle would change the grey of the whole tile."""

MAX_PIXELS = 1 << 28
"""Pixels of the largest image that is read, 16,384 x 16,384: a bound on what a header may claim."""

MAX_IMAGES = 65_536
"""Images of the longest TIFF that is read."""

MAX_NAMED_FILES = 50


class ImageFileError(ValueError):
    """A file that is not a usable image, with the reason; or a folder's bad files, one a line."""


@dataclass(frozen=True, kw_only=True)
class SourceImage:
    """One image and the source image that it was cut from.

    Attributes:
        name: Path relative to the data root; of an image among several in one TIFF with its number
            behind it, `stack.tif[00000002]`, as a scan names it.
        source: Source image, as an index names it, or the file's own `folder/name`: all images of
            a file have the same, so that hold-out never parts them.
        pixels: (H, W) uint8.
    """

    name: str
    source: str
    pixels: NDArray[np.uint8]


def load_images(
    patterns: str | Path | Sequence[str | Path],
    *,
    root: Path,
    min_side_px: int = 1,
    max_rows_px: int | None = None,
    window: tuple[int, int] = FULL_WINDOW,
) -> list[SourceImage]:
    """Load every image that the patterns name; one error describes all bad files.

    Args:
        patterns: Globs or folders, relative to the root or absolute; of a folder, the files that
            lie in it and whose suffix is in `IMAGE_SUFFIXES`. A file named twice is loaded once.
        root: Data root; names are relative to it where the file lies below it.
        min_side_px: Least height and width, after the rows below `max_rows_px` are cut off.
        max_rows_px: Rows used from the top; below lies the data bar.
        window: 16-bit values that become 0 and 255.

    Returns:
        Images sorted by name; the sizes may differ. A TIFF gives one for each image in it.

    Raises:
        ImageFileError: A pattern matches no file, or files are unreadable, truncated, coloured,
            transparent, of another depth or too small: all of them by name, each with its reason.
        ValueError: The window is empty or beyond 16 bits.
    """
    several = [patterns] if isinstance(patterns, str | Path) else list(patterns)
    problems: list[str] = []
    paths: set[Path] = set()
    for pattern in several:
        matches = find_images(pattern, root=root)
        if not matches:
            problems.append(f"{pattern}: no image file matches under {root}")
        paths.update(matches)
    images: list[SourceImage] = []
    for path in sorted(paths, key=lambda path: _name(path, root)):
        name = _name(path, root)
        try:
            found = read_images(path, max_rows_px=max_rows_px, window=window)
            for pixels in found:
                _check_size(pixels, min_side_px)
        except ImageFileError as error:
            problems.append(f"{name}: {error}")
            continue
        source = f"{path.parent.name}/{path.name}"
        images += [
            SourceImage(
                name=name if len(found) == 1 else f"{name}[{index:08d}]",
                source=source,
                pixels=pixels,
            )
            for index, pixels in enumerate(found)
        ]
    if problems:
        more = len(problems) - MAX_NAMED_FILES
        lines = [*problems[:MAX_NAMED_FILES], *([f"and {more} more"] if more > 0 else [])]
        count = f"{len(problems)} problems among {len(paths)} image files under {root}"
        raise ImageFileError("\n  ".join([count + ":", *lines]))
    return images


def find_images(pattern: str | Path, *, root: Path) -> list[Path]:
    """Return the files that a glob matches, or the image files of a folder, sorted.

    Args:
        pattern: A glob or a folder, relative to the root or absolute.
        root: Folder that relative patterns start from.
    """
    path = root / pattern
    if path.is_dir():
        files = (entry for entry in path.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES)
        return sorted(entry for entry in files if _is_visible_file(entry))
    if path.is_file():
        return [path]
    # pathlib globs relative patterns only.
    base = Path(path.anchor) if Path(pattern).is_absolute() else root
    glob = path.relative_to(base).as_posix()
    return sorted(entry for entry in base.glob(glob) if _is_visible_file(entry))


def read_grey(
    path: Path, *, max_rows_px: int | None = None, window: tuple[int, int] = FULL_WINDOW
) -> NDArray[np.uint8]:
    """Read a file of one image as one grey channel.

    Args:
        path: File, see `read_images`.
        max_rows_px: Rows used from the top.
        window: 16-bit values that become 0 and 255.

    Returns:
        (H, W) uint8.

    Raises:
        ImageFileError: See `read_images`; or the file holds several images.
        ValueError: The window is empty or beyond 16 bits.
    """
    images = read_images(path, max_rows_px=max_rows_px, window=window)
    if len(images) != 1:
        raise ImageFileError(f"holds {len(images)} images; expected one")
    return images[0]


def read_images(
    path: Path, *, max_rows_px: int | None = None, window: tuple[int, int] = FULL_WINDOW
) -> list[NDArray[np.uint8]]:
    """Read every image of a file as one grey channel, exactly as the service reads it.

    Args:
        path: File of one of `MEDIA_TYPES`, or, without such a suffix, of the type that its first
            bytes say. What is accepted within each is the service's list (docs/http-api.md).
        max_rows_px: Rows used from the top; those below may be coloured or transparent.
        window: 16-bit values that become 0 and 255; between them linear, beyond them clipped.

    Returns:
        (H, W) uint8 arrays that own their memory, one for each page or plane; at least one.

    Raises:
        ImageFileError: The file cannot be read, is damaged, coloured, transparent, or of another
            depth.
        ValueError: The window is empty or beyond 16 bits.
    """
    low, high = window
    if not 0 <= low < high <= FULL_WINDOW[1]:
        raise ValueError(f"window {low},{high}; expected 0 ≤ low < high ≤ {FULL_WINDOW[1]}")
    return [narrowed(image, window) for image in decode_file(path, max_rows_px=max_rows_px)]


def decode_file(path: Path, *, max_rows_px: int | None = None) -> list[DecodedImage]:
    """Decode every image of a file with its stored values, 8 or 16 bit; arguments as `read_images`.

    Raises:
        ImageFileError: See `read_images`.
    """
    try:
        body = memoryview(path.read_bytes())
    except OSError as error:
        raise ImageFileError(f"cannot be read: {error.strerror or error}") from error
    try:
        return decode_images(
            body,
            _media_type(path, body),
            max_pixels=MAX_PIXELS,
            max_images=MAX_IMAGES,
            max_rows=max_rows_px,
        )
    except ServiceError as error:
        raise ImageFileError(error.detail) from error


def _media_type(path: Path, body: memoryview) -> str:
    """Return a file's media type; its first bytes must agree with a known suffix."""
    named, found = MEDIA_TYPES.get(path.suffix.lower()), media_type_of(body)
    if not len(body):
        raise ImageFileError("cannot be read: the file is empty")
    if found is None or named not in {None, found}:
        expected = "one of " + ", ".join(sorted(MEDIA_TYPES)) if named is None else named
        raise ImageFileError(f"cannot be read: it {describe_start(body)}; expected {expected}")
    return found


def narrowed(image: DecodedImage, window: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the 8-bit greys of a decoded image, (H, W) uint8 that owns its memory."""
    pixels = to_uint8(image.pixels, window, white_is_zero=image.white_is_zero)
    # A view of the file would keep all of it in memory, and PyTorch takes no read-only array.
    return pixels if pixels.flags.owndata and pixels.flags.writeable else pixels.copy()


def _check_size(pixels: NDArray[np.uint8], min_side_px: int) -> None:
    height, width = pixels.shape
    if min(height, width) < min_side_px:
        raise ImageFileError(
            f"is {width}x{height} px where used, expected at least {min_side_px} px a side"
        )


def _is_visible_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _name(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
