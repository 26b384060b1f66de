"""Folder that an alignment is written to: checked before any library that takes long to load."""

from pathlib import Path

HEADER = "alignment.json"


class AlignmentError(ValueError):
    """The folder must not be written to, or no pair is left."""


def check_target(out: Path, *, overwrite: bool) -> None:
    """Check that an alignment may be written to a folder.

    Raises:
        AlignmentError: The folder holds an alignment and `overwrite` is False, or other files.
    """
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / HEADER).is_file():
        raise AlignmentError(f"{out} is not empty and holds no {HEADER}; expected a new folder")
    if not overwrite:
        raise AlignmentError(
            f"{out} already holds an alignment: replace it with --overwrite or choose another "
            "folder"
        )
