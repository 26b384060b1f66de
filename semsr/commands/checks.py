"""Checks of a command's arguments before anything large is loaded; each raises `UsageError`.

The commands of training, evaluation and export import torch, which takes seconds, and then run for
minutes, so the arguments are checked first. Nothing here imports torch.
"""

import difflib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from semsr.commands.options import UsageError


def need_development(command: str) -> None:
    """Raise `UsageError` without torch, as in the serving environment, or without `training`."""
    for package in ("torch", "training"):
        if importlib.util.find_spec(package) is None:
            from engines.installation import install_hint

            raise UsageError(
                f"{command} needs {package}, which is not here; {install_hint('train')}"
            )


@contextmanager
def wrong_use(*errors: type[Exception]) -> Iterator[None]:
    """Turn errors of these kinds into `UsageError`, for a block where only arguments cause them."""
    try:
        yield
    except errors as error:
        raise UsageError(str(error)) from error


def one_of(value: str, known: Sequence[str], option: str) -> str:
    """Return a known value; for an unknown one, suggest the nearest."""
    if value in known:
        return value
    near = difflib.get_close_matches(value, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"{option} is {value!r}{hint}; expected one of {', '.join(known)}")


def at_least(value: int | None, least: int, option: str) -> None:
    """Check that an optional number is not below its minimum."""
    if value is not None and value < least:
        raise UsageError(f"{option} is {value}, expected at least {least}")


def existing_file(path: Path, option: str) -> Path:
    """Return the path of a file that exists."""
    if not path.is_file():
        kind = "is a folder, expected a file" if path.is_dir() else "does not exist"
        raise UsageError(f"{option}: {path} {kind}{_near(path)}")
    return path


def existing_folder(path: Path, option: str) -> Path:
    """Return the path of a folder that exists."""
    if not path.is_dir():
        kind = "is a file, expected a folder" if path.exists() else "does not exist"
        raise UsageError(f"{option}: {path} {kind}{_near(path)}")
    return path


def writable_folder(path: Path, option: str) -> Path:
    """Return the path of a writable folder that exists or can be created."""
    for part in (path, *path.parents):
        if os.path.lexists(part):
            if not part.is_dir():
                kind = "a file" if part.exists() else "a link that leads nowhere"
                raise UsageError(f"{option}: {part} is {kind}, expected a folder")
            if not os.access(part, os.W_OK | os.X_OK):
                raise UsageError(f"{option}: {part} cannot be written to: permission denied")
            break
    return path


def writable_file(path: Path, option: str) -> Path:
    """Return the path of a file that exists or can be created."""
    writable_folder(path.parent, option)
    if path.is_dir():
        raise UsageError(f"{option}: {path} is a folder, expected a file")
    return path


def folder_of_images(path: Path, option: str) -> Path:
    """Return the path of a folder that holds at least one image file."""
    from training.data.images import IMAGE_SUFFIXES, find_images

    existing_folder(path, option)
    if not find_images(path.resolve(), root=path.resolve()):
        raise UsageError(
            f"{option}: {path} holds no image file ({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return path


def existing_bundle(path: Path, option: str) -> Path:
    """Return the path of a bundle whose files match its manifest."""
    from bundle_format.bundle import BundleError, load_bundle

    existing_folder(path, option)
    with wrong_use(BundleError):
        load_bundle(path)
    return path


def existing_benchmark(path: Path, splits: Sequence[str], option: str) -> Path:
    """Return the path of a benchmark that has these splits."""
    from training.evaluation.folders.benchmark import BenchmarkError, load_benchmark

    existing_folder(path, option)
    with wrong_use(BenchmarkError):
        benchmark = load_benchmark(path)
        for split in splits:
            benchmark.tiles(split)
    return path


def _near(path: Path) -> str:
    """Suggest a neighbour of a path that does not exist."""
    if path.exists() or not path.parent.is_dir():
        return ""
    names = [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""
