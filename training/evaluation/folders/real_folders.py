"""Reading of folders with real micrographs in the project's own layout.

Such a folder holds some of the following:
- `test_real_pairs`: registered captures of one field at two magnifications, for structure.
- `test_defect_hr` and `test_defect_lr_synth`: real process defects with a derived LR, for structure
  only, because they come from the LR run and HR pictures of the other run look different.
- `train_lr` and `train_hr`: unpaired tiles of two wafer runs, for the background. A model trained
  on these folders has seen the tiles, but no HR picture of an LR tile.
- `test_defect_lr_real_noref`: LR tiles alone, for the consistency of SR with LR.
- `index.csv` with the columns `folder` and `file`, which identifies such a folder if the command
  does not name it.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.evaluation.folders.benchmark import Picture, read_png

SCALE = 4
INDEX = "index.csv"
TEST_FOLDERS = frozenset({"test_real_pairs", "test_defect_hr", "test_defect_lr_real_noref"})
DEPTH = 2
"""Greatest depth below the root at which folders are searched."""


@dataclass(frozen=True, kw_only=True)
class RealPair:
    """One LR picture and its reference; uint8, (h, w) and (4h, 4w)."""

    name: str
    lr: Picture
    hr: Picture


@dataclass(frozen=True, kw_only=True)
class RealSets:
    """Content of one folder; missing parts are empty.

    Attributes:
        name: Said before the names of its sets in the report; empty for the only folder.
        pairs: Two captures of one field.
        defects: Process defects with a derived LR picture.
        lone_lr: LR alone, by name.
        background_lr: LR of one wafer run, by name.
        background_hr: HR of the other run.
    """

    name: str
    pairs: tuple[RealPair, ...]
    defects: tuple[RealPair, ...]
    lone_lr: dict[str, Picture]
    background_lr: dict[str, Picture]
    background_hr: tuple[Picture, ...]


def find_real_folders(root: Path, *, indexed: bool = False) -> list[Path]:
    """Return the folders of this layout on the first level that has any, `DEPTH` levels at most.

    Args:
        root: Folder to look in.
        indexed: Take only those with an index that names one of their folders.
    """
    level = [root]
    for _ in range(DEPTH + 1):
        found = [folder for folder in level if _is_real_folder(folder, indexed=indexed)]
        if found:
            return found
        level = [child for folder in level for child in _folders_in(folder)]
    return []


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except PermissionError:
        # A neighbour that this user may not read holds nothing for this user.
        return []


def load_real_sets(folder: Path, *, name: str = "") -> RealSets:
    """Read one folder of real tiles.

    Args:
        folder: Folder that `find_real_folders` found.
        name: Name in the report.

    Raises:
        BenchmarkError: A picture cannot be read.
        ValueError: A pair's reference is not four times its LR picture.
    """
    return RealSets(
        name=name,
        pairs=_pairs(folder / "test_real_pairs", folder / "test_real_pairs", "_lr", "_hr"),
        defects=_pairs(folder / "test_defect_lr_synth", folder / "test_defect_hr", "", ""),
        lone_lr=_pictures(folder / "test_defect_lr_real_noref"),
        background_lr=_pictures(folder / "train_lr"),
        background_hr=tuple(_pictures(folder / "train_hr").values()),
    )


def pairs_by_name(
    lr: Mapping[str, Picture], hr: Mapping[str, Picture], *, scale: int
) -> list[RealPair]:
    """Pair pictures of equal names, ignoring file suffixes and a final `_lr` or `_hr`.

    Args:
        lr: File name to (h, w) uint8. Where a name ends with `_hr` it is left out, and one that
            ends with `_lr` among `hr`, so that one folder may hold both.
        hr: File name to (scale*h, scale*w) uint8.
        scale: HR pixels per LR pixel.

    Raises:
        ValueError: A picture has no partner, two have one name, or HR has another size.
    """
    coarse = _by_stem(lr, "_lr", without="_hr")
    fine = _by_stem(hr, "_hr", without="_lr")
    alone = sorted(set(coarse) ^ set(fine))
    if alone or not coarse:
        shown = ", ".join(alone[:10]) if alone else "there are no pairs"
        raise ValueError(f"pairs need an LR and an HR picture of each name; without: {shown}")
    pairs = []
    for name, tile in sorted(coarse.items()):
        expected = (scale * tile.shape[0], scale * tile.shape[1])
        if fine[name].shape != expected:
            raise ValueError(
                f"pair {name}: HR is {fine[name].shape} for an LR picture of {tile.shape}, "
                f"expected {expected}"
            )
        pairs.append(RealPair(name=name, lr=tile, hr=fine[name]))
    return pairs


def _by_stem(pictures: Mapping[str, Picture], end: str, *, without: str) -> dict[str, Picture]:
    found: dict[str, Picture] = {}
    for file, picture in pictures.items():
        stem = Path(file).stem
        if stem.endswith(without):
            continue
        name = stem.removesuffix(end)
        if name in found:
            raise ValueError(f"two pictures of the pairs are called {name}")
        found[name] = picture
    return found


def _is_real_folder(folder: Path, *, indexed: bool) -> bool:
    if not any((folder / name).is_dir() for name in TEST_FOLDERS):
        return False
    return not indexed or _index_names_one(folder / INDEX)


def _index_names_one(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return any(row.get("folder") in TEST_FOLDERS for row in csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error):
        return False


def _pictures(folder: Path) -> dict[str, Picture]:
    return {path.stem: read_png(path) for path in sorted(folder.glob("*.png"))}


def _pairs(lr_folder: Path, hr_folder: Path, lr_end: str, hr_end: str) -> tuple[RealPair, ...]:
    pairs = []
    for lr_path in sorted(lr_folder.glob(f"*{lr_end}.png")):
        name = lr_path.stem.removesuffix(lr_end)
        hr_path = hr_folder / f"{name}{hr_end}.png"
        if not hr_path.is_file():
            continue
        lr, hr = read_png(lr_path), read_png(hr_path)
        if hr.shape != (SCALE * lr.shape[0], SCALE * lr.shape[1]):
            raise ValueError(
                f"{hr_path} is {hr.shape} for an LR picture of {lr.shape}, expected {SCALE} times"
            )
        pairs.append(RealPair(name=name, lr=lr, hr=hr))
    return tuple(pairs)
