"""`semsr upscale`: super-resolves image files with an engine, without a server."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bundle_format.bundle import load_bundle
from semsr.error_text import error_text
from semsr.progress import progress
from semsr.upscaler import Upscaler
from semsr.whole_file import write_whole
from service.ground.errors import ImageTooLarge, ServiceError
from service.images import codec
from service.images.media_types import TYPES_BY_SUFFIX, choose_answer
from service.images.window import Window
from service.settings import Settings

# Folder that macOS adds next to files that it packs or copies.
_FOREIGN_FOLDER = "__MACOSX"
# A 16-bit image that fills less than an eighth of the greys has most likely fewer bits.
_DARK = 32
_SHOWN = 3
_LINK = "link to a folder"
_EARLIER = "result of an earlier run"


class UpscaleError(ValueError):
    """The results cannot be written as requested; nothing was written."""


@dataclass(frozen=True)
class UpscaledFile:
    """Result of one image.

    Attributes:
        source: File of the image.
        output: File that was written, or None.
        shape: (H, W) of the result, or None.
        note: Hint for the user, or None.
        error: Reason why nothing was written, or None.
    """

    source: Path
    output: Path | None = None
    shape: tuple[int, int] | None = None
    note: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as one row for machines."""
        height, width = self.shape or (None, None)
        return {
            "source": str(self.source),
            "output": None if self.output is None else str(self.output),
            "height": height,
            "width": width,
            "note": self.note,
            "error": self.error,
        }


@dataclass(frozen=True)
class _Found:
    """Images among the sources and in their folders.

    Attributes:
        images: File, and the folder below the results that its result belongs to.
        failures: Files that cannot be images, and folders that cannot be read.
        left_out: Number of other entries of folders, by suffix or kind.
    """

    images: list[tuple[Path, Path]]
    failures: list[UpscaledFile]
    left_out: Counter[str]


def upscale_files(
    sources: Sequence[Path],
    out: Path,
    *,
    bundle: Path | None = None,
    engine: str | None = None,
    window: Window | None = None,
    bits: Literal[8, 16] = 8,
    max_pixels: int | None = None,
    overwrite: bool = False,
    on_row: Callable[[UpscaledFile], None] | None = None,
    on_left_out: Callable[[Counter[str]], None] | None = None,
) -> list[UpscaledFile]:
    """Super-resolve image files into `out/NAME_x4.SUFFIX` (JPEG and BMP become PNG).

    Invalid arguments are found before the engine is loaded. A result gets its name only when it is
    complete.

    Args:
        sources: Files, and folders that are searched with their subfolders; a bad file is reported
            and skipped.
        out: Folder for the results; subfolders of a source are mirrored in it.
        bundle: Bundle folder; None takes the setting's.
        engine: Engine name or auto; None takes the setting's.
        window: Grey range of 16-bit images; None takes the bundle's, or else the whole range.
        bits: Bits of the results; 16 gives uint16 in the greys of each image.
        max_pixels: Largest image in pixels; None takes the setting's.
        overwrite: Whether to replace existing results.
        on_row: Callback with each row as soon as it is known, between two images.
        on_left_out: Callback with the number of entries left out, by suffix or kind, if any: files
            that are not images, links to folders, results of earlier runs.

    Returns:
        A row for each image.

    Raises:
        UpscaleError: Two images have the same result's name, a result exists, or there is no image.
        bundle_format.bundle.BundleError: The bundle cannot be read.
        engines.protocol.EngineError: The engine cannot be loaded.
    """
    settings = Settings()
    found = _find(sources, out)
    rows: list[UpscaledFile] = []

    def add(row: UpscaledFile) -> None:
        rows.append(row)
        if on_row:
            on_row(row)

    loaded = load_bundle(bundle or settings.bundle) if found.images else None
    targets = _targets(found, out, loaded.manifest.scale) if loaded else {}
    if on_left_out and (left_out := +found.left_out):  # without those of which there are none
        on_left_out(left_out)
    for row in found.failures:
        add(row)
    if loaded is None:
        return rows
    if not overwrite:
        _check_free(targets)
    with progress("upscale", len(targets), unit="image") as steps:
        steps.say("loading the engine")
        with Upscaler(loaded, engine=engine, window=window, bits=bits) as upscaler:
            steps.say("")
            for path, target in targets.items():
                add(_upscale_file(path, target, upscaler, max_pixels or settings.max_pixels))
                steps.update()
    return rows


def _find(sources: Sequence[Path], out: Path) -> _Found:
    found = _Found([], [], Counter())
    for source in sources:
        if source.is_dir():
            before = len(found.images) + len(found.failures)
            links = found.left_out[_LINK]
            _search(source, out.resolve(), found)
            if len(found.images) + len(found.failures) == before:
                links = found.left_out[_LINK] - links
                more = f"; {links} x {_LINK}, which is not followed" if links else ""
                raise UpscaleError(
                    f"{source} holds no image; expected {', '.join(TYPES_BY_SUFFIX)}{more}"
                )
        elif not source.exists():
            found.failures.append(UpscaledFile(source, error="no such file"))
        elif source.suffix.lower() not in TYPES_BY_SUFFIX:
            reason = f"unknown suffix {source.suffix!r}; expected {', '.join(TYPES_BY_SUFFIX)}"
            found.failures.append(UpscaledFile(source, error=reason))
        else:
            found.images.append((source, Path()))
    return found


def _search(folder: Path, out: Path, found: _Found) -> None:
    """Find the images below a folder, except hidden ones and results of earlier runs."""

    def fail(error: OSError) -> None:
        row = UpscaledFile(Path(error.filename), error=f"cannot be read: {error.strerror}")
        found.failures.append(row)

    for name, folders, files in os.walk(folder, onerror=fail):
        here = Path(name)
        visible = sorted(
            sub
            for sub in folders
            if not sub.startswith(".") and sub != _FOREIGN_FOLDER and (here / sub).resolve() != out
        )
        # A link can lead back to a folder above it: none is followed.
        folders[:] = [sub for sub in visible if not (here / sub).is_symlink()]
        found.left_out[_LINK] += len(visible) - len(folders)
        for file in sorted(files):
            path = here / file
            if file.startswith("."):
                continue
            if path.suffix.lower() in TYPES_BY_SUFFIX:
                found.images.append((path, here.relative_to(folder)))
            else:
                found.left_out[path.suffix or "without suffix"] += 1


def _targets(found: _Found, out: Path, scale: int) -> dict[Path, Path]:
    """Name every result, and reject equal names, so that no result overwrites another.

    An image with the name of another image's result is taken as the result of an earlier run.
    """
    sources: dict[Path, Path] = {}
    for path, below in found.images:
        answer = _answer_type(path.suffix.lower())
        suffix = path.suffix if answer == TYPES_BY_SUFFIX.get(path.suffix.lower()) else ".png"
        target = out / below / f"{path.stem}_x{scale}{suffix}"
        if target in sources:
            raise UpscaleError(f"{sources[target]} and {path} would both become {target}")
        sources[target] = path
    results = {_place(target) for target in sources}
    targets = {
        source: target for target, source in sources.items() if _place(source) not in results
    }
    found.left_out[_EARLIER] += len(sources) - len(targets)
    return targets


def _place(path: Path) -> Path:
    """Return the unique path of a directory entry; if the entry is a link, it is not followed."""
    return path.parent.resolve() / path.name


def _check_free(targets: dict[Path, Path]) -> None:
    taken = [str(target) for target in targets.values() if os.path.lexists(target)]
    if taken:
        more = f" and {len(taken) - _SHOWN} more" if len(taken) > _SHOWN else ""
        raise UpscaleError(
            f"{len(taken)} of {len(targets)} results exist already: {', '.join(taken[:_SHOWN])}"
            f"{more}; --overwrite replaces them"
        )


def _answer_type(suffix: str) -> str:
    return choose_answer(None, TYPES_BY_SUFFIX.get(suffix, ""))


def _upscale_file(path: Path, target: Path, upscaler: Upscaler, max_pixels: int) -> UpscaledFile:
    media_type = TYPES_BY_SUFFIX[path.suffix.lower()]
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a FIFO waits until it is written to
            return UpscaledFile(path, error="not a regular file")
        body = path.read_bytes()
        image = codec.decode(body, media_type, shape=None, dtype=None, max_pixels=max_pixels)
        sr = upscaler(image.pixels, white_is_zero=image.white_is_zero)
        metadata = image.metadata.scaled(upscaler.bundle.manifest.scale)
        content = codec.encode(sr, _answer_type(path.suffix.lower()), metadata)
    except ImageTooLarge as error:
        reason = f"{error}; --max-pixels or SEMSR_MAX_PIXELS raises the limit"
        return UpscaledFile(path, error=reason)
    except (ServiceError, OSError) as error:
        return UpscaledFile(path, error=error_text(error, about=path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content)
    except OSError as error:
        return UpscaledFile(path, error=f"{target} cannot be written: {error.strerror}")
    note = None
    is_deep = image.pixels.dtype == np.uint16
    if upscaler.window is None and is_deep and int(image.pixels.max()) >> 8 < _DARK:
        note = (
            f"its 16-bit values end at {image.pixels.max()} of 65535, so the result has hardly any "
            "contrast; --window LO,HI names the range that is used, such as 0,4095 for 12 bits"
        )
    return UpscaledFile(path, output=target, shape=(sr.shape[0], sr.shape[1]), note=note)
