"""Simulated review tiles with labels: what the detector learns from and is calibrated on.

The only module here that knows the simulator; no torch, because worker processes import it.

Seeds: a detector's tiles must show other scenes than the benchmark does, or it would judge scenes
that it was trained on. Scenes follow from the simulator's seed and the tile's number, so this
module's seeds start at `SEED_BASE`, where no benchmark's seed should be.
"""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.ground.progress import progress
from training.ground.whole_file import write_whole_text
from training.simulator.defects.planting import NoSiteError
from training.simulator.recipes import draw_recipe
from training.simulator.tile import any_in_blocks, simulate_tile

SEED_BASE = 9_000_000_000
"""Simulator seeds from here on belong to the detector; those of benchmarks stay below."""

DEFECTS_PER_TILE = {"train": (6, 12), "calibrate_clean": (0, 0), "calibrate_defect": (3, 6)}
"""Least and largest number of defects of a tile that has any, by what the tile is for. Training
packs twice the benchmark's number: one defect more costs a twentieth of one tile more."""

PURPOSES = tuple(DEFECTS_PER_TILE)
"""Purposes of tiles; each purpose has a simulator seed of its own."""

CELL_PX = 4
"""Side of a label's cell, which is the network's."""

HR_PX = 960
MAX_TRIES = 32


@dataclass(frozen=True)
class LabelledTile:
    """One simulated review tile.

    Attributes:
        hr: Review grey, (H, W) uint8.
        cells: (H/4, W/4) uint8: 0 background, k where the k-th defect touches the cell.
        scene: Kind of scene.
        kinds: Kind of each defect.
    """

    hr: NDArray[np.uint8]
    cells: NDArray[np.uint8]
    scene: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class TilePlan:
    """Which tiles to make: a purpose, the user's seed, how many, and their size.

    Attributes:
        purpose: Purpose, one of `PURPOSES`.
        seed: The user's seed, at least 0.
        count: Number of tiles.
        clean_share: Share of tiles without defects, spread evenly.
        hr_px: Side of a tile, a multiple of 32 and at least 192.
    """

    purpose: str
    seed: int
    count: int
    clean_share: float
    hr_px: int = HR_PX

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSES or self.seed < 0 or self.count < 1:
            raise ValueError(
                f"expected a purpose of {PURPOSES}, seed >= 0 and count >= 1, got "
                f"{self.purpose!r}, {self.seed} and {self.count}"
            )
        if not 0 <= self.clean_share <= 1 or self.hr_px % 32 or self.hr_px < 192:
            raise ValueError(
                "expected clean_share in 0..1 and hr_px a multiple of 32 from 192 on, got "
                f"{self.clean_share} and {self.hr_px}"
            )

    @property
    def simulator_seed(self) -> int:
        """Seed handed to the simulator."""
        return SEED_BASE + len(PURPOSES) * self.seed + PURPOSES.index(self.purpose)

    def is_clean(self, number: int) -> bool:
        """Whether a tile has no defects; one in 1 / clean_share is."""
        return int((number + 1) * self.clean_share) > int(number * self.clean_share)


def labelled_tile(
    seed: int, number: int, *, defects: tuple[int, int], hr_px: int = HR_PX
) -> LabelledTile:
    """Simulate one tile with `defects[0]` to `defects[1]` defects, where its layout has room.

    Args:
        seed: The simulator's seed.
        number: Number of the tile; with `seed` it fixes everything.
        defects: Least and largest number of defects; (0, 0) for a clean tile.
        hr_px: Side of the tile in HR pixels.
    """
    rng = np.random.default_rng((seed, number, 1))
    for _ in range(MAX_TRIES):
        recipe = draw_recipe(rng, defects=defects)
        try:
            tile = simulate_tile(recipe, seed=seed, number=number, tile_px=hr_px // CELL_PX)
        except NoSiteError:
            continue  # the layout has no room for one of the kinds; another recipe will fit
        cells = np.zeros((hr_px // CELL_PX, hr_px // CELL_PX), dtype=np.uint8)
        for index, defect in enumerate(tile.defects, start=1):
            cells[any_in_blocks(defect.mask, CELL_PX)] = index
        return LabelledTile(
            hr=np.rint(tile.hr).astype(np.uint8),
            cells=cells,
            scene=recipe.scene,
            kinds=tuple(defect.kind for defect in tile.defects),
        )
    raise NoSiteError(f"no recipe with {defects} defects fits tile {number} of seed {seed}")


def labelled_tiles(plan: TilePlan, cache: Path, *, workers: int = 1) -> list[LabelledTile]:
    """Make a plan's tiles, or read them from `cache` where it has them; order follows the numbers.

    Args:
        plan: Plan of the tiles.
        cache: Folder for this plan's tiles alone, made where absent; 1 MB a tile.
        workers: Processes that simulate; 1 works in this one.

    Raises:
        ValueError: `cache` holds the tiles of another plan.
    """
    _open_cache(plan, cache)
    paths = [cache / f"{number:05d}.npz" for number in range(plan.count)]
    missing = [number for number, path in enumerate(paths) if not path.is_file()]
    label = f"simulating tiles ({plan.purpose})"
    with progress(label, len(missing), unit="tile") as steps:
        if workers == 1:
            for number in missing:
                _make(plan, number, paths[number])
                steps.update()
        elif missing:
            # Spawned, because a fork copies the locks of torch's threads as they stand.
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                plans = [plan] * len(missing)
                targets = [paths[number] for number in missing]
                for _ in pool.map(_make, plans, missing, targets, chunksize=4):
                    steps.update()
    return [_read(path) for path in paths]


def _make(plan: TilePlan, number: int, path: Path) -> None:
    tile = labelled_tile(
        plan.simulator_seed,
        number,
        defects=(0, 0) if plan.is_clean(number) else DEFECTS_PER_TILE[plan.purpose],
        hr_px=plan.hr_px,
    )
    about = json.dumps({"scene": tile.scene, "kinds": tile.kinds})
    # The process in the name: two runs on one cache then never write to one file.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(temporary, hr=tile.hr, cells=tile.cells, about=np.array(about))
    temporary.replace(path)


def _read(path: Path) -> LabelledTile:
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        return LabelledTile(file["hr"], file["cells"], about["scene"], tuple(about["kinds"]))


def _open_cache(plan: TilePlan, cache: Path) -> None:
    """Create a cache for a plan, or check that it is that plan's; the count may differ."""
    wanted = {key: value for key, value in asdict(plan).items() if key != "count"}
    about = cache / "tiles.json"
    if not about.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        write_whole_text(about, json.dumps(wanted) + "\n")
        return
    found = json.loads(about.read_text(encoding="utf-8"))
    if found != wanted:
        raise ValueError(f"{cache} holds tiles of {found}, but {wanted} are needed")
