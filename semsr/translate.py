"""`semsr translate`: a network of scale 1 on a tree of pictures that another method enlarged.

`translation.json` in the folder of the results names the checkpoint and, for each picture, the
digest of the file that it was made of. A finished picture is not made again; another checkpoint is
refused, since the pictures of one folder are judged as one method. PyTorch is loaded only where
the network runs, so that a command can refuse early.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semsr.whole_file import write_whole_text
from training.data.images import (
    FULL_WINDOW,
    IMAGE_SUFFIXES,
    MAX_NAMED_FILES,
    ImageFileError,
    read_grey,
)
from training.ground.progress import progress
from training.ground.whole_file import whole_file

if TYPE_CHECKING:
    from semsr.image_reading import ImageReading

FORMAT_VERSION = 1
KIND = "semsr-translation"
RECORD = "translation.json"


class TranslateError(ValueError):
    """The pictures or the folder of the results cannot be used, or the network does not fit."""


class Translations:
    """Folder of the results, with its record.

    Args:
        path: Folder; made with the first picture.
        checkpoint: File of the network.

    Raises:
        OSError: The checkpoint cannot be read.
    """

    def __init__(self, path: Path, checkpoint: Path) -> None:
        self.path = path
        self.checkpoint = checkpoint
        self._sha256 = _digest(checkpoint)
        self._made: dict[str, str] = {}

    def open(self, *, overwrite: bool = False) -> None:
        """Read the record, where there is one, and change nothing.

        Args:
            overwrite: Whether all pictures are made again, also those of another checkpoint.

        Raises:
            TranslateError: The folder holds files without a record or pictures of another
                checkpoint, or its record is damaged.
        """
        file = self.path / RECORD
        if not file.is_file():
            if self.path.is_dir() and any(self.path.iterdir()):
                raise TranslateError(
                    f"{self.path} is not empty and has no {RECORD}; expected a new or empty folder"
                )
            return
        try:
            record: Any = json.loads(file.read_text(encoding="utf-8"))
            known = (record["kind"], record["format_version"])
            made: dict[str, str] = dict(record["pictures"])
            sha256, name = str(record["sha256"]), str(record["checkpoint"])
        except (ValueError, KeyError, TypeError) as error:
            raise TranslateError(f"{file} is damaged: {error!r}; expected kind {KIND!r}") from error
        if known != (KIND, FORMAT_VERSION):
            raise TranslateError(
                f"{file} has kind {known[0]!r} and format version {known[1]!r}; this version of "
                f"semsr reads {KIND!r}, {FORMAT_VERSION}"
            )
        if overwrite:
            return
        if sha256 != self._sha256:
            raise TranslateError(
                f"{self.path} holds pictures of another checkpoint, {name}; replace them with "
                "--overwrite or choose another folder"
            )
        self._made = made

    def is_made(self, name: str, source: Path) -> bool:
        """Return whether a picture is there, made of the file as it is now."""
        return self._made.get(name) == _digest(source) and (self.path / name).is_file()

    def keep(self, name: str, source: Path, picture: Image.Image) -> None:
        """Write a picture and then its entry; a picture without an entry is made again."""
        with whole_file(self.path / name) as part:
            picture.save(part, format="PNG")
        self._made[name] = _digest(source)
        document = {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "checkpoint": self.checkpoint.name,
            "sha256": self._sha256,
            "pictures": dict(sorted(self._made.items())),
        }
        write_whole_text(self.path / RECORD, json.dumps(document, indent=1) + "\n")


def find_pictures(images: Path, out: Path) -> dict[str, Path]:
    """Find the image files of a folder and its subfolders; return each by its result's name.

    Args:
        images: Folder; hidden files and folders are left out.
        out: Folder of the results, which is left out where it lies in `images`.

    Returns:
        Files by the path of their results below `out`: the same, as PNG.

    Raises:
        TranslateError: There is no image file, or two files have one result.
    """
    found: dict[str, Path] = {}
    for path in sorted(images.rglob("*")):
        below = path.relative_to(images)
        is_hidden = any(part.startswith(".") for part in below.parts)
        if is_hidden or path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            continue
        if path.resolve().is_relative_to(out.resolve()):
            continue
        name = below.with_suffix(".png").as_posix()
        if name in found:
            raise TranslateError(f"{found[name]} and {path} would both become {out / name}")
        found[name] = path
    if not found:
        raise TranslateError(
            f"{images} holds no image file ({', '.join(sorted(IMAGE_SUFFIXES))}), nor do its "
            "subfolders"
        )
    return found


def translate_pictures(
    pictures: Mapping[str, Path], folder: Translations, *, device: str = "cpu"
) -> int:
    """Translate the pictures that are not made yet; return their number.

    All files are read before the first is translated, so that one error names all bad ones.

    Args:
        pictures: Files by the names of their results; see `find_pictures`.
        folder: An opened folder.
        device: Device that the network runs on, `cpu` or `cuda`.

    Raises:
        CheckpointError: The file is not a semsr checkpoint.
        TranslateError: The network enlarges, the device is missing, or files cannot be used.
    """
    import torch

    from models import load_generator
    from semsr.image_reading import reading_of_training
    from training.methods.pictures import upscale

    generator, info = load_generator(folder.checkpoint)
    if generator.scale != 1:
        raise TranslateError(
            f"{folder.checkpoint} enlarges {generator.scale} times; expected a network of scale 1, "
            "which takes enlarged pictures: semsr evaluate --bundle takes this one as it is"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise TranslateError("the device is 'cuda', but PyTorch finds no GPU; expected cpu here")
    reading = reading_of_training(info.training)
    _check_files(pictures, reading)
    todo = {name: path for name, path in pictures.items() if not folder.is_made(name, path)}
    network = generator.to(device)
    done = len(pictures) - len(todo)
    with progress("translating", len(pictures), unit="image", done=done) as steps:
        for name, path in todo.items():
            steps.say(name)
            folder.keep(name, path, Image.fromarray(upscale(network, _read(path, reading))))
            steps.update()
    return len(todo)


def _check_files(pictures: Mapping[str, Path], reading: "ImageReading") -> None:
    problems = []
    with progress("reading images", len(pictures), unit="image") as steps:
        for path in pictures.values():
            try:
                _read(path, reading)
            except ImageFileError as error:
                problems.append(f"{path}: {error}")
            steps.update()
    if problems:
        more = len(problems) - MAX_NAMED_FILES
        lines = [*problems[:MAX_NAMED_FILES], *([f"and {more} more"] if more > 0 else [])]
        raise TranslateError("\n  ".join(["files that cannot be used:", *lines]))


def _read(path: Path, reading: "ImageReading") -> NDArray[np.uint8]:
    return read_grey(path, window=reading.window or FULL_WINDOW, max_rows_px=reading.max_rows_px)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
