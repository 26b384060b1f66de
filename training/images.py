"""Image files to grey pixels: what training reads, checked as a whole before it starts.

The first step of unpaired training: folders or globs of PNG, TIFF, BMP and JPEG files of mixed
sizes, the LR side apart from the HR side. Every bad file is named in one error, so that a folder is
mended in one go and no run dies in its third hour.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg"})
FULL_WINDOW = (0, 65535)
"""16-bit values shown as black and white. Fixed, never a tile's own extremes: one bright particle
would change the grey of everything around it."""

GREY_MODES = frozenset({"L", "LA", "La"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "RGBa"})
MAX_NAMED_FILES = 50


class ImageFileError(ValueError):
    """A file that is no usable image, with the reason; or a folder's bad files, one a line."""


@dataclass(frozen=True, kw_only=True)
class SourceImage:
    """One image file and the source image that it was cut from.

    Attributes:
        name: Path relative to the data root.
        source: Source image, as an index names it, or the file's own `folder/name`.
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
    """Load every image that the patterns name, or say of all bad ones what is wrong with them.

    Args:
        patterns: Globs or folders, relative to the root or absolute; of a folder, the files that
            lie in it and whose suffix is in `IMAGE_SUFFIXES`. A file named twice is loaded once.
        root: Data root; names are relative to it where the file lies below it.
        min_side_px: Least height and width, after the rows below `max_rows_px` are cut off.
        max_rows_px: Rows used from the top; below lies the data bar.
        window: 16-bit values that become 0 and 255.

    Returns:
        Images sorted by name; the sizes may differ.

    Raises:
        ImageFileError: A pattern matches no file, or files are unreadable, truncated, coloured, of
            another depth or too small: all of them by name, each with its reason.
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
            pixels = read_grey(path, max_rows_px=max_rows_px, window=window)
            _check_size(pixels, min_side_px)
        except ImageFileError as error:
            problems.append(f"{name}: {error}")
            continue
        source = f"{path.parent.name}/{path.name}"
        images.append(SourceImage(name=name, source=source, pixels=pixels))
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
        root: Where relative patterns start.
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
    """Read an image file as one grey channel.

    Args:
        path: An 8-bit or 16-bit grey image, or an 8-bit one that stores grey as RGB(A) or with a
            palette. A channel of opacity is ignored.
        max_rows_px: Rows used from the top.
        window: 16-bit values that become 0 and 255; between them linear, beyond them clipped.

    Returns:
        (H, W) uint8.

    Raises:
        ImageFileError: The file cannot be read, is coloured, or of another depth.
        ValueError: The window is empty.
    """
    low, high = window
    if not low < high:
        raise ValueError(f"a window is (low, high) with low < high, got {window}")
    try:
        with warnings.catch_warnings():
            # What Pillow warns of (odd tags, the size of a whole die) is no reason to refuse.
            warnings.simplefilter("ignore")
            pixels, mode = _decode(path)
    except ImageFileError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError for some broken PNG chunks.
        raise ImageFileError(f"cannot be read: {_first_line(error)}") from error
    pixels = pixels[:max_rows_px]
    return _to_grey(pixels, mode=mode, window=window)


def _decode(path: Path) -> tuple[NDArray[Any], str]:
    """Return the pixels, (H, W) or (H, W, channels), and Pillow's name of their type."""
    with Image.open(path) as image:
        num_pages = getattr(image, "n_frames", 1)
        if num_pages != 1:
            raise ImageFileError(f"has {num_pages} pages, expected one picture a file")
        image.load()
        grey_or_rgb = image if _is_grey(image.mode) else image.convert("RGB")
        return np.asarray(grey_or_rgb), image.mode


def _is_grey(mode: str) -> bool:
    if mode in GREY_MODES or mode.startswith("I;16"):
        return True
    if mode in COLOUR_MODES:
        return False
    raise ImageFileError(f"has pixels of type {mode!r}, expected 8-bit or 16-bit grey")


def _to_grey(pixels: NDArray[Any], *, mode: str, window: tuple[int, int]) -> NDArray[np.uint8]:
    if mode.startswith("I;16"):
        low, high = window
        share = (pixels.astype(np.float64) - low) / (high - low)
        return np.rint(255.0 * share.clip(0.0, 1.0)).astype(np.uint8)
    if pixels.ndim == 2:
        return pixels.astype(np.uint8)
    channels = pixels[..., :1] if mode in GREY_MODES else pixels[..., :3]
    if bool((channels != channels[..., :1]).any()):
        share = float((channels != channels[..., :1]).any(axis=-1).mean())
        raise ImageFileError(f"is a colour image ({share:.1%} of its pixels), expected grey")
    return np.ascontiguousarray(channels[..., 0], dtype=np.uint8)


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


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
