"""A folder of finished pictures, which a comparison judges as one method, and its record.

    FOLDER/semsr-pictures.json      facts of the method, options, and an entry for each picture
    FOLDER/test_clean/0000.png …

The commands that make pictures (`semsr internal-sr`, `reference-sr` and `translate`) write the
whole record. Other tools may write the facts alone, for `semsr compare`. No torch here, so that a
command can refuse a folder early.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.ground.whole_file import whole_file, write_whole_text

RECORD = "semsr-pictures.json"
KIND = "semsr-pictures"
FORMAT_VERSION = 1

NM_PER_INCH = 25.4e6

PictureName = Annotated[str, Field(pattern=r"^([^/.][^/]*/)*[^/.][^/]*\.png$")]
"""Path of a picture below the folder. Without `..`, as a replaced picture is deleted by it."""


class PicturesError(ValueError):
    """Finished pictures, their folder, its record or the source of one cannot be used."""


class PictureFacts(BaseModel):
    """Facts of pictures that no measurement shows."""

    model_config = ConfigDict(frozen=True)

    summary: str = Field(description="method in words")
    is_short: bool = Field(description="whether it was trained less than published")
    trained_on: str = Field(default="", description="images that it was trained on, in words")
    offline: str = Field(
        default="", description="reason why it can be neither exported nor served; empty: none"
    )


class _Record(PictureFacts):
    """Content of the file in addition to its kind and version."""

    options: dict[str, Any] | None = Field(
        default=None, description="all that a picture depends on, but its source; absent: unknown"
    )
    pictures: dict[PictureName, dict[str, Any]] = Field(
        default_factory=dict[str, dict[str, Any]], description="source and further facts by name"
    )


class PictureFolder:
    """The folder of one run of a command, and which of its pictures are finished.

    Call `open`, then `begin`, then `save` for each of the names that `begin` returns.

    Args:
        path: Folder; made by `begin`.
        options: All that a picture depends on in addition to its source, as JSON-compatible values,
            with the command that makes it.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.path = path
        self._options = json.loads(json.dumps(dict(options)))
        self._pictures: dict[str, dict[str, Any]] = {}
        self._replaced: list[str] = []

    def open(self, *, overwrite: bool = False) -> None:
        """Read the record, where there is one, and change nothing.

        Args:
            overwrite: Whether all finished pictures are replaced, also those of other options.

        Raises:
            PicturesError: The folder holds pictures of other options or of another tool, files
                without a record, or a record that cannot be read.
        """
        file = self.path / RECORD
        if not file.is_file():
            if self.path.is_dir() and any(self.path.iterdir()):
                raise PicturesError(
                    f"{self.path} is not empty and has no {RECORD}; expected a new or empty folder"
                )
            return
        record = _read(file)
        if record.options is None:
            raise PicturesError(
                f"{file} has no options, so that another tool made the pictures; expected a new or "
                "empty folder"
            )
        if overwrite:
            self._replaced, self._pictures = list(record.pictures), {}
            return
        changed = [
            f"{key} {old!r}, now {new!r}"
            for key in {**record.options, **self._options}
            if (old := record.options.get(key)) != (new := self._options.get(key))
        ]
        if changed:
            raise PicturesError(
                f"{self.path} holds pictures of other options: {', '.join(changed)}; replace them "
                "with --overwrite or choose another folder"
            )
        self._pictures = record.pictures

    def begin(self, facts: PictureFacts, sources: Mapping[str, str]) -> list[str]:
        """Delete the pictures that are replaced, write the record, and list what is to be made.

        A picture whose source has changed is refused, never made again without `--overwrite`:
        mostly the command was given another benchmark whose tiles have the same names, and the
        folder may hold hours of learning.

        Args:
            facts: Facts of all pictures.
            sources: Digests of what the wanted pictures are made of, by their names.

        Returns:
            Names of the pictures that are not finished, in the order of `sources`.

        Raises:
            PicturesError: A finished picture was made from another source.
        """
        finished = {
            name: self._pictures[name]
            for name in sources
            if name in self._pictures and (self.path / name).is_file()
        }
        for name, entry in finished.items():
            if entry.get("source") != sources[name]:
                raise PicturesError(
                    f"{self.path / name} was made from another source; replace the folder's "
                    "pictures with --overwrite or choose another folder"
                )
        for name in self._replaced:
            (self.path / name).unlink(missing_ok=True)
        self._facts, self._sources = facts, sources
        self._write()
        return [name for name in sources if name not in finished]

    def save(
        self,
        name: str,
        picture: NDArray[np.uint8],
        *,
        pixel_nm: float | None = None,
        **facts: Any,
    ) -> None:
        """Write a picture and then its entry; a picture without an entry is made again.

        Args:
            name: One of the names of `begin`.
            picture: (H, W) uint8.
            pixel_nm: Size of a pixel for the file's pHYs; None for none.
            facts: Further facts for the picture's entry.
        """
        dpi = None if pixel_nm is None else (NM_PER_INCH / pixel_nm,) * 2
        with whole_file(self.path / name) as part:
            Image.fromarray(picture).save(part, format="PNG", dpi=dpi)
        self._pictures[name] = {"source": self._sources[name], **facts}
        self._write()

    def _write(self) -> None:
        document = {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            **self._facts.model_dump(),
            "options": self._options,
            "pictures": dict(sorted(self._pictures.items())),
        }
        write_whole_text(self.path / RECORD, json.dumps(document, indent=1) + "\n")


def read_facts(folder: Path) -> PictureFacts | None:
    """Read the facts of finished pictures; None where the folder has no record.

    Raises:
        PicturesError: The record is damaged, or of another kind or version.
    """
    file = folder / RECORD
    return PictureFacts(**_read(file).model_dump()) if file.is_file() else None


def picture_names(files: Iterable[Path], folder: Path) -> dict[str, Path]:
    """Name the pictures of files below a folder: the same paths, as PNG.

    Raises:
        PicturesError: Two files would become one picture.
    """
    named: dict[str, Path] = {}
    for file in files:
        name = file.relative_to(folder).with_suffix(".png").as_posix()
        if name in named:
            raise PicturesError(f"{named[name]} and {file} would both become the picture {name}")
        named[name] = file
    return named


def source_digest(*images: NDArray[np.uint8]) -> str:
    """Return the sha256 of the sizes and pixels of (H, W) uint8 images."""
    parts = (f"{image.shape}".encode() + image.tobytes() for image in images)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(file: Path) -> _Record:
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PicturesError(f"{file} is damaged: {error}; expected JSON") from error
    for key, expected in (("kind", KIND), ("format_version", FORMAT_VERSION)):
        found = document.get(key) if isinstance(document, dict) else None
        if found != expected:
            raise PicturesError(f"{file} has {key} {found!r}; expected {expected!r}")
    try:
        return _Record.model_validate(document)
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise PicturesError(f"{file} is damaged: {'; '.join(lines)}") from error
