"""Reading of a benchmark folder: LR tiles, and the truth that only the evaluation may use.

DIR/benchmark.json  DIR/test_defect/lr/0000.png  DIR/reference_hr/0000.png …
DIR/truth/index.json  DIR/truth/test_defect/{hr,mask,noise_free}/0000.png …
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.images import ImageFileError, read_grey

FORMAT_VERSION = 1
KIND = "semsr-benchmark"

Picture = NDArray[np.uint8]
Box = tuple[int, int, int, int]

SPLITS = {
    "test": ("test_defect", "test_clean"),
    "thousand": ("thousand_defect", "thousand_clean"),
    "unknown": ("unknown_defect", "test_clean"),
}
"""Values of `--split`: the split with defects, and the one without."""


class BenchmarkError(ValueError):
    """A folder is not a benchmark, has an unknown version, or lacks usable files."""


@dataclass(frozen=True, kw_only=True)
class Defect:
    """Ground truth of one simulated defect.

    Attributes:
        number: Value in the tile's mask, from 1.
        kind: Kind of defect, such as `bridge`.
        group: `planted` (any training may plant this kind), `unseen` (none of the benchmark's rows
            does) or `unknown` (no training does).
        box_hr_px: left, top, right, bottom in HR pixels, half-open.
        size_hr_px: Extent in HR pixels.
        contrast_to_noise: Mean difference that it makes over the deviation of review noise.
    """

    number: int
    kind: str
    group: str
    box_hr_px: Box
    size_hr_px: float
    contrast_to_noise: float


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One tile of a test split: paths of its pictures, and its ground truth.

    Attributes:
        split: Name of the split, such as `test_clean`.
        name: Number of the tile, four digits.
        scene: Kind of scene, such as `dense_lines`.
        defects: Defects of the tile; empty in clean splits.
        lr_path: (h, w) as inspection sees it.
        hr_path: (s*h, s*w) the same scene as review sees it.
        mask_path: k where the k-th defect is; None in clean splits.
        noise_free_path: Review without noise; None where the benchmark has none.
    """

    split: str
    name: str
    scene: str
    defects: tuple[Defect, ...]
    lr_path: Path
    hr_path: Path
    mask_path: Path | None
    noise_free_path: Path | None

    @property
    def key(self) -> str:
        """Name within the benchmark, such as `test_clean/0007`."""
        return f"{self.split}/{self.name}"

    def lr(self) -> Picture:
        """Read the LR tile, (h, w) uint8."""
        return read_png(self.lr_path)

    def hr(self) -> Picture:
        """Read the true HR, (s*h, s*w) uint8."""
        return read_png(self.hr_path)


@dataclass(frozen=True, kw_only=True)
class HrTile:
    """One HR picture without an LR partner, of `train_hr` or `reference_hr`."""

    name: str
    scene: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """An opened benchmark; pictures are read only when needed.

    Attributes:
        path: Folder of the benchmark.
        seed: Seed of the simulator.
        scale: s.
        tile_px: Side of an LR tile.
        lr_pixel_nm: Pixel size of LR tiles.
        split_sizes: Number of tiles in each split that was written.
        fingerprint: sha256 over both index files; another benchmark has another one.
        index: `tiles` of `truth/index.json`.
    """

    path: Path
    seed: int
    scale: int
    tile_px: int
    lr_pixel_nm: float
    split_sizes: dict[str, int]
    fingerprint: str
    index: dict[str, Any]

    def tiles(self, split: str) -> tuple[Tile, ...]:
        """List the tiles of a test split in order of their numbers.

        Raises:
            BenchmarkError: The benchmark has no such split, or no truth of one of its tiles.
        """
        return tuple(self._tile(split, f"{n:04d}") for n in range(self._size(split)))

    def pairs(self, split: str) -> tuple[Tile, ...]:
        """List the tiles of a split of aligned pairs, whose HR pictures are not kept as truth.

        Raises:
            BenchmarkError: The benchmark has no such split, or its index lacks a tile.
        """
        names = [f"{n:04d}" for n in range(self._size(split))]
        return tuple(
            Tile(
                split=split,
                name=name,
                scene=str(self._entry(f"{split}/{name}")["scene"]),
                defects=(),
                lr_path=self.path / split / "lr" / f"{name}.png",
                hr_path=self.path / split / "hr" / f"{name}.png",
                mask_path=None,
                noise_free_path=None,
            )
            for name in names
        )

    def hr_tiles(self, split: str) -> tuple[HrTile, ...]:
        """List the pictures of `train_hr` or `reference_hr`.

        Raises:
            BenchmarkError: The benchmark has no such split, or its index lacks a picture.
        """
        names = [f"{n:04d}" for n in range(self._size(split))]
        return tuple(
            HrTile(
                name=name,
                scene=str(self._entry(f"{split}/{name}")["scene"]),
                path=self.path / split / f"{name}.png",
            )
            for name in names
        )

    def _size(self, split: str) -> int:
        if split not in self.split_sizes:
            raise BenchmarkError(
                f"{self.path} has no split {split!r}; it has {', '.join(self.split_sizes)}"
            )
        return self.split_sizes[split]

    def _entry(self, key: str) -> dict[str, Any]:
        if key not in self.index:
            raise BenchmarkError(f"{self.path}/truth/index.json says nothing about {key}")
        return self.index[key]

    def _tile(self, split: str, name: str) -> Tile:
        entry = self._entry(f"{split}/{name}")
        truth = self.path / "truth" / split
        noise_free = truth / "noise_free" / f"{name}.png"
        defects = tuple(_defect(item) for item in entry.get("defects", ()))
        return Tile(
            split=split,
            name=name,
            scene=str(entry["scene"]),
            defects=defects,
            lr_path=self.path / split / "lr" / f"{name}.png",
            hr_path=truth / "hr" / f"{name}.png",
            mask_path=truth / "mask" / f"{name}.png" if defects else None,
            noise_free_path=noise_free if noise_free.is_file() else None,
        )


def is_benchmark(path: Path) -> bool:
    """Return whether a folder contains `benchmark.json`."""
    return (path / "benchmark.json").is_file()


def load_benchmark(path: Path) -> Benchmark:
    """Open a benchmark folder.

    Raises:
        BenchmarkError: An index file is missing, malformed, or of another kind or version.
    """
    head = _read_index(path / "benchmark.json")
    if head.get("kind") != KIND:
        raise BenchmarkError(f"{path} is of kind {head.get('kind')!r}, expected {KIND!r}")
    truth = _read_index(path / "truth" / "index.json")
    try:
        return Benchmark(
            path=path,
            seed=int(head["seed"]),
            scale=int(head["scale"]),
            tile_px=int(head["tile_px"]),
            lr_pixel_nm=float(head["lr_pixel_nm"]),
            split_sizes={str(name): int(size) for name, size in head["splits"].items()},
            fingerprint=_fingerprint(path),
            index=truth["tiles"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BenchmarkError(f"{path}: an index lacks or misstates {error}") from error


def read_png(path: Path) -> Picture:
    """Read a picture as one grey channel, (H, W) uint8, as the service reads it.

    Raises:
        BenchmarkError: The file does not exist or cannot be used.
    """
    if not path.is_file():
        raise BenchmarkError(f"the picture {path} is missing")
    try:
        return read_grey(path)
    except ImageFileError as error:
        raise BenchmarkError(f"the picture {path} cannot be used: {error}") from error


def _read_index(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BenchmarkError(f"{path} is missing: its folder is not a benchmark") from error
    except json.JSONDecodeError as error:
        raise BenchmarkError(f"{path} is not JSON: {error}") from error
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise BenchmarkError(
            f"{path} has format version {version!r}; this version of semsr reads {FORMAT_VERSION}"
        )
    return document


def _defect(item: dict[str, Any]) -> Defect:
    left, top, right, bottom = (int(value) for value in item["box_hr_px"])
    return Defect(
        number=int(item["number"]),
        kind=str(item["kind"]),
        group=str(item["group"]),
        box_hr_px=(left, top, right, bottom),
        size_hr_px=float(item["size_hr_px"]),
        contrast_to_noise=float(item["contrast_to_noise"]),
    )


def _fingerprint(path: Path) -> str:
    digest = hashlib.sha256()
    for name in ("benchmark.json", "truth/index.json"):
        digest.update((path / name).read_bytes())
    return digest.hexdigest()
