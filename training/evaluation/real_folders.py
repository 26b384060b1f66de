"""Reads the real micrographs that come with the project, in their one layout.

Below the data root lies `sem/starter_x4` with
- `test_real_pairs`: two captures of one field at two magnifications, registered: structure;
- `test_defect_hr` and `test_defect_lr_synth`: real process defects, LR derived: structure only,
  because they come from the LR run and show what no HR of the other run looks like;
- `train_lr` against `train_hr`, two wafer runs, unpaired: background. A model that was trained on
  these folders has seen the tiles, but never a picture that belongs to one of them;
- `test_defect_lr_real_noref`: LR alone: only whether SR still shows it.
"""

from dataclasses import dataclass
from pathlib import Path

from training.evaluation.benchmark import Picture, read_png

FOLDER = Path("sem") / "starter_x4"
SCALE = 4


@dataclass(frozen=True, kw_only=True)
class RealPair:
    """One LR picture and its reference; uint8, (h, w) and (4h, 4w)."""

    name: str
    lr: Picture
    hr: Picture


@dataclass(frozen=True, kw_only=True)
class RealSets:
    """What lies below a data root; empty where a folder is absent."""

    pairs: tuple[RealPair, ...]
    defects: tuple[RealPair, ...]
    lone_lr: tuple[Picture, ...]
    background_lr: tuple[Picture, ...]
    background_hr: tuple[Picture, ...]


def has_real_tiles(data_root: Path) -> bool:
    """Say whether a data root holds the real tiles."""
    return (data_root / FOLDER).is_dir()


def load_real_sets(data_root: Path) -> RealSets:
    """Read the real tiles below a data root.

    Raises:
        ValueError: A pair's reference is not four times its LR picture.
    """
    folder = data_root / FOLDER
    return RealSets(
        pairs=_pairs(folder / "test_real_pairs", folder / "test_real_pairs", "_lr", "_hr"),
        defects=_pairs(folder / "test_defect_lr_synth", folder / "test_defect_hr", "", ""),
        lone_lr=_pictures(folder / "test_defect_lr_real_noref"),
        background_lr=_pictures(folder / "train_lr"),
        background_hr=_pictures(folder / "train_hr"),
    )


def _pictures(folder: Path) -> tuple[Picture, ...]:
    return tuple(read_png(path) for path in sorted(folder.glob("*.png")))


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
