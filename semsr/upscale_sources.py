"""Images among the sources of `semsr upscale`, and the names of their results."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from service.images.media_types import TYPES_BY_SUFFIX, choose_answer

# Folder that macOS adds next to files that it packs or copies.
_FOREIGN_FOLDER = "__MACOSX"
_SHOWN = 3
_LINK = "link to a folder"
_EARLIER = "result of an earlier run"
_UNMATCHED = "not matched by --pattern"


class UpscaleError(ValueError):
    """The results cannot be written as requested; nothing was written."""


@dataclass(frozen=True)
class Found:
    """Images among the sources and in their folders.

    Attributes:
        images: File, and the folder below the results that its result belongs to.
        failures: Files that cannot be images and folders that cannot be read, with the reason.
        left_out: Number of other entries of folders, by suffix or kind.
    """

    images: list[tuple[Path, Path]] = field(default_factory=list)
    failures: list[tuple[Path, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def find_images(sources: Sequence[Path], out: Path, patterns: Sequence[str]) -> Found:
    """Find the images among files and in folders with their subfolders.

    Args:
        sources: Files and folders.
        out: Folder for the results, which is not searched.
        patterns: Shell patterns such as `*_se.tif`; an image of a folder must match one by its
            name. Empty for all images.

    Raises:
        UpscaleError: A folder holds no image.
    """
    found = Found()
    for source in sources:
        if source.is_dir():
            _search_source(source, out.resolve(), patterns, found)
        elif not source.exists():
            found.failures.append((source, "no such file"))
        elif source.suffix.lower() not in TYPES_BY_SUFFIX:
            reason = f"unknown suffix {source.suffix!r}; expected {', '.join(TYPES_BY_SUFFIX)}"
            found.failures.append((source, reason))
        else:
            found.images.append((source, Path()))
    return found


def _search_source(source: Path, out: Path, patterns: Sequence[str], found: Found) -> None:
    before = len(found.images) + len(found.failures)
    left_out = found.left_out.copy()
    _search(source, out, patterns, found)
    if len(found.images) + len(found.failures) > before:
        return
    expected = " or ".join(patterns) if patterns else ", ".join(TYPES_BY_SUFFIX)
    hints = [
        f"; {count} x {words}"
        for kind, words in ((_LINK, f"{_LINK}, which is not followed"), (_UNMATCHED, _UNMATCHED))
        if (count := found.left_out[kind] - left_out[kind])
    ]
    raise UpscaleError(f"{source} holds no image; expected {expected}{''.join(hints)}")


def _search(folder: Path, out: Path, patterns: Sequence[str], found: Found) -> None:
    """Find the images below a folder, except hidden ones and results of earlier runs."""

    def fail(error: OSError) -> None:
        found.failures.append((Path(error.filename), f"cannot be read: {error.strerror}"))

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
            if path.suffix.lower() not in TYPES_BY_SUFFIX:
                found.left_out[path.suffix or "without suffix"] += 1
            elif patterns and not any(fnmatchcase(file, pattern) for pattern in patterns):
                found.left_out[_UNMATCHED] += 1
            else:
                found.images.append((path, here.relative_to(folder)))


def name_results(found: Found, out: Path, scale: int) -> dict[Path, Path]:
    """Name every result, and reject equal names, so that no result overwrites another.

    An image with the name of another image's result is taken as the result of an earlier run.

    Returns:
        The result of each image.

    Raises:
        UpscaleError: Two images have the same result's name.
    """
    sources: dict[Path, Path] = {}
    for path, below in found.images:
        answer = answer_type(path)
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


def answer_type(path: Path) -> str:
    """Return the media type of an image's result: the image's own where that is lossless."""
    return choose_answer(None, TYPES_BY_SUFFIX.get(path.suffix.lower(), ""))


def _place(path: Path) -> Path:
    """Return the unique path of a directory entry; if the entry is a link, it is not followed."""
    return path.parent.resolve() / path.name


def check_free(targets: dict[Path, Path]) -> None:
    """Refuse to replace results.

    Raises:
        UpscaleError: A result exists.
    """
    taken = [str(target) for target in targets.values() if os.path.lexists(target)]
    if taken:
        more = f" and {len(taken) - _SHOWN} more" if len(taken) > _SHOWN else ""
        raise UpscaleError(
            f"{len(taken)} of {len(targets)} results exist already: {', '.join(taken[:_SHOWN])}"
            f"{more}; --overwrite replaces them, --skip-existing keeps them"
        )
