"""`semsr upscale`: super-resolves image files with an engine, without a server."""

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
from semsr.upscale_sources import (
    UpscaleError,
    answer_type,
    check_free,
    find_images,
    name_results,
)
from semsr.upscaler import Upscaler
from semsr.whole_file import write_whole
from service.ground.errors import ImageTooLarge, ServiceError
from service.images import codec
from service.images.media_types import TYPES_BY_SUFFIX
from service.images.window import Window
from service.settings import Settings

__all__ = ["Existing", "UpscaleError", "UpscaledFile", "upscale_files"]

Existing = Literal["refuse", "replace", "skip"]
"""Treatment of results that exist."""

# A 16-bit image that fills less than an eighth of the greys has most likely fewer bits.
_DARK = 32
# Flags that are measured in their limits, and their meaning above 1.
_LIMITED = {
    "residual": "a structure of the image may be missing or changed in the result",
    "domain-distance": "the image is unlike those of the training",
}


@dataclass(frozen=True)
class UpscaledFile:
    """Result of one image.

    Attributes:
        source: File of the image.
        output: File that was written or, if `is_skipped`, that exists; None without a result.
        shape: (H, W) of the result, or None if it was not computed.
        quality: Quality flags of the result by name, or None if it was not computed.
        notes: Hints for the user.
        error: Reason why nothing was written, or None.
        is_skipped: Whether an existing result was kept.
    """

    source: Path
    output: Path | None = None
    shape: tuple[int, int] | None = None
    quality: dict[str, float] | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    is_skipped: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it as one row for machines."""
        height, width = self.shape or (None, None)
        return {
            "source": str(self.source),
            "output": None if self.output is None else str(self.output),
            "height": height,
            "width": width,
            "quality": self.quality,
            "note": "; ".join(self.notes) or None,
            "error": self.error,
            "skipped": self.is_skipped,
        }


def upscale_files(
    sources: Sequence[Path],
    out: Path,
    *,
    patterns: Sequence[str] = (),
    bundle: Path | None = None,
    engine: str | None = None,
    window: Window | None = None,
    bits: Literal[8, 16] = 8,
    max_pixels: int | None = None,
    existing: Existing = "refuse",
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
        patterns: Shell patterns, one of which the name of an image in a folder must match; empty
            for all images.
        bundle: Bundle folder; None takes the setting's.
        engine: Engine name or auto; None takes the setting's.
        window: Grey range of 16-bit images; None takes the bundle's, or else the whole range.
        bits: Bits of the results; 16 gives uint16 in the greys of each image.
        max_pixels: Largest image in pixels; None takes the setting's.
        existing: Treatment of results that exist: `refuse` writes nothing at all, `replace` writes
            them again, `skip` keeps them, regardless of the model that made them.
        on_row: Callback with each row as soon as it is known, between two images.
        on_left_out: Callback with the number of entries left out, by suffix or kind, if any: files
            that are not images or not matched, links to folders, results of earlier runs.

    Returns:
        A row for each image.

    Raises:
        UpscaleError: Two images have the same result's name, a result exists, or there is no image.
        bundle_format.bundle.BundleError: The bundle cannot be read.
        engines.protocol.EngineError: The engine cannot be loaded.
    """
    settings = Settings()
    found = find_images(sources, out, patterns)
    rows: list[UpscaledFile] = []

    def add(row: UpscaledFile) -> None:
        rows.append(row)
        if on_row:
            on_row(row)

    loaded = load_bundle(bundle or settings.bundle) if found.images else None
    targets = name_results(found, out, loaded.manifest.scale) if loaded else {}
    if on_left_out and (left_out := +found.left_out):  # without those of which there are none
        on_left_out(left_out)
    for path, reason in found.failures:
        add(UpscaledFile(path, error=reason))
    if existing == "refuse":
        check_free(targets)
    if existing == "skip":
        for path, target in list(targets.items()):
            if target.is_file():
                add(UpscaledFile(path, output=target, is_skipped=True))
                del targets[path]
    if loaded is None or not targets:
        return rows
    with progress("upscale", len(targets), unit="image") as steps:
        steps.say("loading the engine")
        with Upscaler(loaded, engine=engine, window=window, bits=bits) as upscaler:
            steps.say("")
            for path, target in targets.items():
                add(_upscale_file(path, target, upscaler, max_pixels or settings.max_pixels))
                steps.update()
    return rows


def _upscale_file(path: Path, target: Path, upscaler: Upscaler, max_pixels: int) -> UpscaledFile:
    media_type = TYPES_BY_SUFFIX[path.suffix.lower()]
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a FIFO waits until it is written to
            return UpscaledFile(path, error="not a regular file")
        body = path.read_bytes()
        image = codec.decode(body, media_type, shape=None, dtype=None, max_pixels=max_pixels)
        sr = upscaler.with_quality(image.pixels, white_is_zero=image.white_is_zero)
        metadata = image.metadata.scaled(upscaler.scale)
        content = codec.encode(sr.pixels, answer_type(path), metadata)
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
    notes = [
        f"{name} is {value:.2f} of its limit: {_LIMITED[name]}"
        for name, value in sr.quality.items()
        if name in _LIMITED and value > 1
    ]
    is_deep = image.pixels.dtype == np.uint16
    if upscaler.window is None and is_deep and int(image.pixels.max()) >> 8 < _DARK:
        notes.append(
            f"its 16-bit values end at {image.pixels.max()} of 65535, so the result has hardly any "
            "contrast; --window LO,HI names the range that is used, such as 0,4095 for 12 bits"
        )
    height, width = sr.pixels.shape
    return UpscaledFile(
        path, output=target, shape=(height, width), quality=sr.quality, notes=tuple(notes)
    )
