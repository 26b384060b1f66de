"""A folder of pictures that internal learning made, with a record of how.

`semsr-pictures.json` in the folder holds the facts that `semsr compare` shows of finished pictures.
Its section `internal_sr` names the options and, for each picture, the digest of its tile and what
its learning took. A finished picture is not made again; other options are refused, since the
pictures of one folder are judged as one method. No torch here, so that a command can refuse early.
"""

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.images import FULL_WINDOW, ImageFileError, find_images, read_grey
from training.ground.progress import progress
from training.ground.whole_file import whole_file, write_whole_text
from training.internal_learning.options import Options

RECORD = "semsr-pictures.json"
KIND = "semsr-pictures"
FACTS_VERSION = 1
"""Version of the facts that all makers of finished pictures write."""

FORMAT_VERSION = 1
"""Version of the section `internal_sr`."""

SECTION = "internal_sr"


class FolderError(ValueError):
    """The folder holds other pictures, or its record is damaged or of another version."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to make.

    Attributes:
        name: Path of the picture below the folder, ending in `.png`.
        read: Function that returns its tile, (H, W) uint8.
    """

    name: str
    read: Callable[[], NDArray[np.uint8]]


class PictureFolder:
    """The folder, its record, and which pictures are finished."""

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path
        self._record_path = path / RECORD
        self._options = json.loads(options.model_dump_json())
        self._summary, self._is_short = options.summary, options.is_short
        self._pictures: dict[str, dict[str, Any]] = {}

    def open(self, *, overwrite: bool = False) -> None:
        """Read the record, where there is one, and change nothing.

        Args:
            overwrite: Whether pictures of other options may be replaced.

        Raises:
            FolderError: The folder holds pictures of other options, files without a record, or a
                record that cannot be read.
        """
        if not self._record_path.is_file():
            if self.path.is_dir() and any(self.path.iterdir()):
                raise FolderError(
                    f"{self.path} is not empty and has no {RECORD}; expected a new or empty folder"
                )
            return
        record = self._read()
        if record["options"] != self._options:
            if not overwrite:
                raise FolderError(
                    f"{self.path} holds pictures of other options: "
                    f"{_differences(record['options'], self._options)}; replace them with "
                    "--overwrite or choose another folder"
                )
            return
        self._pictures = {} if overwrite else record["pictures"]

    def begin(self) -> None:
        """Delete the pictures that are replaced, and write the record."""
        if self._record_path.is_file():
            for name in self._read()["pictures"]:
                if name not in self._pictures:
                    (self.path / name).unlink(missing_ok=True)
        self._write()

    def is_finished(self, job: Job, tile: NDArray[np.uint8]) -> bool:
        """Return whether a picture is there.

        Raises:
            FolderError: It was made from another tile.
        """
        entry = self._pictures.get(job.name)
        if entry is None or not (self.path / job.name).is_file():
            return False
        if entry["tile"] != digest(tile):
            raise FolderError(
                f"{self.path / job.name} was made from another tile; replace the folder's pictures "
                "with --overwrite or choose another folder"
            )
        return True

    def save(
        self,
        job: Job,
        tile: NDArray[np.uint8],
        picture: NDArray[np.uint8],
        facts: dict[str, Any],
    ) -> None:
        """Write a picture and then its entry; a picture without an entry is made again."""
        with whole_file(self.path / job.name) as part:
            Image.fromarray(picture).save(part, format="PNG")
        self._pictures[job.name] = {"tile": digest(tile), **facts}
        self._write()

    def _write(self) -> None:
        document = {
            "format_version": FACTS_VERSION,
            "kind": KIND,
            "summary": self._summary,
            "is_short": self._is_short,
            "trained_on": "each tile itself",
            "offline": "it learns at inference time, for minutes a tile",
            SECTION: {
                "format_version": FORMAT_VERSION,
                "options": self._options,
                "pictures": dict(sorted(self._pictures.items())),
            },
        }
        write_whole_text(self._record_path, json.dumps(document, indent=1) + "\n")

    def _read(self) -> dict[str, Any]:
        return read_record(self.path)


def folder_jobs(folder: Path, *, window: tuple[int, int] = FULL_WINDOW) -> list[Job]:
    """List the images of a folder, for pictures of the same names as PNG.

    Args:
        folder: Folder of image files.
        window: 16-bit values that become 0 and 255.

    Raises:
        FolderError: Two files would become one picture.
    """
    jobs: dict[str, Job] = {}
    for path in find_images(folder.resolve(), root=folder.resolve()):
        name = f"{path.stem}.png"
        if name in jobs:
            raise FolderError(f"two files of {folder} are named {path.stem}; expected one picture")
        jobs[name] = Job(name=name, read=functools.partial(_read_tile, path, window))
    return list(jobs.values())


def read_record(folder: Path) -> dict[str, Any]:
    """Read the section of internal learning in a folder's record: `options` and `pictures`.

    Raises:
        FolderError: It is damaged, of an unknown version, or the pictures are of another method.
    """
    path = folder / RECORD
    section = _read_facts(path).get(SECTION)
    if not isinstance(section, dict):
        raise FolderError(f"{path} has no section {SECTION}; expected pictures of internal-sr")
    version = section.get("format_version")
    if version != FORMAT_VERSION:
        raise FolderError(
            f"{path} has {SECTION} of format version {version!r}; this version of semsr reads "
            f"{FORMAT_VERSION}"
        )
    if not all(isinstance(section.get(key), dict) for key in ("options", "pictures")):
        raise FolderError(f"{path} is damaged: it lacks options or pictures")
    return section


def is_short(folder: Path) -> bool:
    """Return whether the record of finished pictures, by any maker, calls them short.

    Raises:
        FolderError: The record cannot be read; a folder without one is not short.
    """
    path = folder / RECORD
    return path.is_file() and bool(_read_facts(path).get("is_short"))


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FolderError(f"{path} is damaged: {error}; expected JSON of kind {KIND!r}") from error
    found = (facts.get("kind"), facts.get("format_version")) if isinstance(facts, dict) else None
    if found != (KIND, FACTS_VERSION):
        raise FolderError(
            f"{path} has kind and format version {found}; expected {(KIND, FACTS_VERSION)}"
        )
    return facts


def make_pictures(
    jobs: Sequence[Job],
    folder: PictureFolder,
    options: Options,
    *,
    device: str = "cpu",
    together: int = 1,
) -> int:
    """Make the pictures that are not there yet; returns their number.

    Args:
        jobs: Pictures, in order.
        folder: An opened folder.
        options: Options of the run.
        device: Device of the networks, `cpu` or `cuda`.
        together: Number of tiles that learn together: more memory, and less idle time on a GPU.
    """
    from training.internal_learning.zssr import enlarge_tiles

    folder.begin()
    open_jobs = [(job, tile) for job in jobs if not folder.is_finished(job, tile := job.read())]
    done = len(jobs) - len(open_jobs)
    with progress("learning from tiles", len(jobs), unit="tile", done=done) as shown:
        for group in _groups(open_jobs, together):
            names = group[0][0].name + (f" and {len(group) - 1} more" if len(group) > 1 else "")

            def report(step: int, loss: float, names: str = names) -> None:
                shown.say(f"{names}: step {step} of {options.steps}, loss {loss:.4f}")

            started_s = time.monotonic()
            answers = enlarge_tiles(
                [tile for _, tile in group], options, device=device, report=report
            )
            seconds = (time.monotonic() - started_s) / len(group)
            for (job, tile), answer in zip(group, answers, strict=True):
                facts = {
                    "seconds": round(seconds, 2),
                    "steps": list(answer.steps),
                    "last_rate": answer.last_rate,
                    "noise_grey": round(answer.noise_grey, 3),
                }
                folder.save(job, tile, answer.picture, facts)
                shown.update()
    return len(open_jobs)


def _read_tile(path: Path, window: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        return read_grey(path, window=window)
    except ImageFileError as error:
        raise FolderError(f"the tile {path} cannot be used: {error}") from error


def digest(tile: NDArray[np.uint8]) -> str:
    """Return the sha256 of a tile's size and pixels."""
    return hashlib.sha256(f"{tile.shape}".encode() + tile.tobytes()).hexdigest()


def _groups(
    jobs: Sequence[tuple[Job, NDArray[np.uint8]]], together: int
) -> Iterator[list[tuple[Job, NDArray[np.uint8]]]]:
    """Part the jobs into groups of tiles of one size, in the order of the first of each size."""
    by_size: dict[tuple[int, ...], list[tuple[Job, NDArray[np.uint8]]]] = {}
    for job, tile in jobs:
        by_size.setdefault(tile.shape, []).append((job, tile))
    for same in by_size.values():
        for first in range(0, len(same), together):
            yield same[first : first + together]


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key)!r}, now {new.get(key)!r}" for key in keys)
