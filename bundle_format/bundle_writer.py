"""Atomic writer of bundles: a folder gets its name only when it is complete.

An existing bundle is replaced only with `overwrite`, since a service may have loaded it.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bundle_format.bundle import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    Bundle,
    BundleError,
    Manifest,
    check_name,
    first_problem,
    load_bundle,
)


def write_bundle(
    path: Path,
    *,
    files: Mapping[str, bytes],
    manifest_fields: Mapping[str, Any],
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle atomically: a folder next to `path` is filled, then renamed.

    Args:
        path: Folder to write; for a symbolic link, its target.
        files: Content by relative POSIX name, without the manifest.
        manifest_fields: Every field of `Manifest` but `format_version` and `files`.
        overwrite: Whether an existing bundle may be replaced.

    Returns:
        Bundle, loaded back from disk and thereby verified.

    Raises:
        BundleError: The target exists and may not be replaced or is not a bundle, or the fields
            do not validate.
    """
    path = path.resolve()  # a link stays, and its target is replaced
    check_target(path, overwrite=overwrite)
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    fields = {"format_version": FORMAT_VERSION, **manifest_fields, "files": hashes}
    try:
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        raise BundleError(f"{path}: {first_problem(error)}") from error
    for name in files:
        check_name(path, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        staging.chmod(0o755)
        for name, content in files.items():
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        text = json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True)
        (staging / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")
        load_bundle(staging)
        _flush(staging)
        # Again: an export takes minutes, in which another one may have ended.
        check_target(path, overwrite=overwrite)
        _replace_folder(staging, path)
        _flush_names(path.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_bundle(path)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Check that a bundle can be written to a folder.

    Args:
        path: Folder of the bundle.
        overwrite: Whether a bundle that is there may be replaced.

    Raises:
        BundleError: The path holds something else, or a bundle that may not be replaced.
    """
    if not path.exists() or _is_empty_folder(path):
        return
    if not (path / MANIFEST_NAME).is_file():
        raise BundleError(f"{path} exists and is not a bundle; refusing to replace it")
    if not overwrite:
        raise BundleError(
            f"{path} already holds a bundle, which a service may have loaded; choose another "
            "folder, or replace it with --overwrite"
        )


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _replace_folder(source: Path, target: Path) -> None:
    """Rename `source` to `target`; an existing bundle is first renamed out of the way.

    Raises:
        BundleError: Another process has put something there in the meantime.
    """
    if not target.exists() or _is_empty_folder(target):
        try:
            source.replace(target)
        except OSError as error:
            raise BundleError(f"{target} was written by another process meanwhile") from error
        return
    retired = target.with_name(f".{target.name}.retired-{os.getpid()}")
    try:
        target.replace(retired)
        source.replace(target)
    except BaseException:  # Ctrl-C as well
        if retired.exists() and not target.exists():
            retired.replace(target)
        raise
    # The new bundle is in its place: a leftover is not a failure.
    shutil.rmtree(retired, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Wait until a folder and all its files are on disk."""
    for entry in folder.rglob("*"):
        if entry.is_dir():
            _flush_names(entry)
        else:
            _flush_one(entry)
    _flush_names(folder)


def _flush_names(folder: Path) -> None:
    """Flush a folder's entries; ignore errors, since some network file systems cannot do it."""
    with suppress(OSError):
        _flush_one(folder)


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
