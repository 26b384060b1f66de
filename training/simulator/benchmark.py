"""Writes the benchmark folder: what methods train on, what they are tested on, and the truth.

The last step of the simulator (`semsr simulate`). Only the evaluation may read `truth`; names of
files say nothing about content. `docs/simulator.md` describes the folder.
"""

import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.ground.progress import tracked
from training.ground.whole_file import write_whole_text
from training.simulator.capture import MODES
from training.simulator.pictures import to_uint8, write_png
from training.simulator.splits import DEFAULT_SPLITS, EDGE_SCENES, SPLITS, Split, render_split_tile
from training.simulator.tile import LR_PIXEL_NM, SimulatedTile

FORMAT_VERSION = 1
KIND = "semsr-benchmark"
HEADER = "benchmark.json"
UNFINISHED_HEADER = "benchmark.unfinished.json"
INDEX = "truth/index.json"


class BenchmarkError(ValueError):
    """The folder does not hold this benchmark, or a split is unknown."""


@dataclass(frozen=True)
class _Job:
    out: Path
    seed: int
    name: str
    split: Split
    number: int

    @property
    def key(self) -> str:
        return f"{self.name}/{self.number:04d}"


def write_benchmark(
    out: Path,
    *,
    seed: int,
    splits: Sequence[str] = DEFAULT_SPLITS,
    jobs: int | None = None,
    plan: Mapping[str, Split] = SPLITS,
) -> Path:
    """Write splits of the benchmark, the same for the same seed on every run.

    The call adds the named splits to a folder of the same seed, or overwrites them, and keeps the
    other splits. While the folder is being written, it has no header. After an interruption, repeat
    the call.

    Args:
        out: Folder, made where absent.
        seed: Seed, at least 0.
        splits: Keys of `plan`.
        jobs: Processes; None for as many as there are usable CPUs. Each works on one thread.
        plan: Splits that there are.

    Returns:
        Path of the header, `benchmark.json`.

    Raises:
        BenchmarkError: A split is not known, or `out` is not empty and holds no benchmark of this
            format, seed and these modes.
        ValueError: `seed` or `jobs` is out of its range.
    """
    if seed < 0 or (jobs is not None and jobs < 1) or not splits:
        raise ValueError(
            f"expected seed >= 0, jobs >= 1 and a split, got {seed}, {jobs} and {splits}"
        )
    for name in splits:
        if name not in plan:
            raise BenchmarkError(f"unknown split {name!r}; expected one of {', '.join(plan)}")
    header, index = _begin(out, seed=seed, splits=splits)
    work = [
        _Job(out, seed, name, plan[name], number)
        for name in dict.fromkeys(splits)
        for number in range(plan[name].tiles)
    ]
    for folder in {folder for job in work for folder in job.split.folders.values()}:
        (out / folder).mkdir(parents=True, exist_ok=True)
    jobs = min(jobs or _usable_cpus(), len(work))
    with _results(work, jobs) as results:
        for key, entry in tracked(results, "simulating tiles", total=len(work)):
            index["tiles"][key] = entry
    index["tiles"] = dict(sorted(index["tiles"].items()))
    (out / INDEX).parent.mkdir(exist_ok=True)
    _write_json(out / INDEX, index)
    header["splits"].update({name: plan[name].tiles for name in splits})
    _write_json(out / HEADER, header)
    (out / UNFINISHED_HEADER).unlink()
    return out / HEADER


def _begin(out: Path, *, seed: int, splits: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and index of the other splits, and mark the folder as unfinished."""
    header: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "seed": seed,
        "scale": SPLITS["test_defect"].scale,
        "tile_px": SPLITS["test_defect"].tile_px,
        "lr_pixel_nm": LR_PIXEL_NM,
        "splits": {},
    }
    index: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        # Through JSON, so that they compare equal to what a file holds.
        "modes": json.loads(json.dumps({mode.name: asdict(mode) for mode in MODES})),
        "tiles": {},
    }
    out.mkdir(parents=True, exist_ok=True)
    found = [path for path in (out / HEADER, out / UNFINISHED_HEADER) if path.is_file()]
    if not found and any(out.iterdir()):
        raise BenchmarkError(
            f"{out} is not empty and holds no {HEADER}; expected a new or empty folder"
        )
    for path in found:
        old = json.loads(path.read_text(encoding="utf-8"))
        for key in ("format_version", "kind", "seed"):
            if old.get(key) != header[key]:
                raise BenchmarkError(f"{path} has {key} {old.get(key)!r}; expected {header[key]!r}")
        kept = {name: tiles for name, tiles in old["splits"].items() if name not in splits}
        header["splits"].update(kept)
    if header["splits"]:
        old = json.loads((out / INDEX).read_text(encoding="utf-8"))
        # A folder that was made before a mode was added can be added to.
        if any(index["modes"].get(name) != mode for name, mode in old["modes"].items()):
            raise BenchmarkError(
                f"{out / INDEX} was made with other capture modes; expected {index['modes']}"
            )
        index["tiles"] = {
            key: entry
            for key, entry in old["tiles"].items()
            if key.rpartition("/")[0] in header["splits"]
        }
    _write_json(out / UNFINISHED_HEADER, header)
    (out / HEADER).unlink(missing_ok=True)
    return header, index


@contextmanager
def _results(work: Sequence[_Job], jobs: int) -> Iterator[Iterable[tuple[str, dict[str, Any]]]]:
    if jobs == 1:
        yield map(_write_tile, work)
        return
    # Spawned, as a fork of a process with threads (torch, progress bars) may hang.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_write_tile, job) for job in work]
        try:
            yield (future.result() for future in as_completed(futures))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_tile(job: _Job) -> tuple[str, dict[str, Any]]:
    """Write one tile's pictures; returns its key and entry in the index."""
    tile = render_split_tile(job.split, seed=job.seed, number=job.number)
    hr_pixel_nm = LR_PIXEL_NM / job.split.scale
    for picture, folder in job.split.folders.items():
        path = job.out / folder / f"{job.number:04d}.png"
        if picture == "lr":
            write_png(path, to_uint8(tile.lr), LR_PIXEL_NM)
        elif picture == "hr":
            write_png(path, to_uint8(tile.hr), hr_pixel_nm)
        elif picture == "mask":
            write_png(path, tile.labels, hr_pixel_nm)
        elif picture == "noise_free" and tile.scene.kind in EDGE_SCENES:
            write_png(path, to_uint8(tile.hr_noise_free), hr_pixel_nm)
    return job.key, _entry(tile)


def _entry(tile: SimulatedTile) -> dict[str, Any]:
    defects = []
    for defect in tile.defects:
        rows, columns = np.nonzero(tile.labels == defect.number)
        left, top = int(columns.min()), int(rows.min())
        right, bottom = int(columns.max()) + 1, int(rows.max()) + 1
        defects.append(
            {
                "number": defect.number,
                "kind": defect.kind,
                "group": defect.group,
                "box_hr_px": [left, top, right, bottom],
                "center_hr_px": [(left + right) / 2, (top + bottom) / 2],
                "size_hr_px": round(float(np.sqrt((right - left) * (bottom - top))), 1),
                "contrast_to_noise": round(defect.contrast_to_noise, 2),
            }
        )
    return {"scene": tile.scene.kind, "parameters": tile.parameters, "defects": defects}


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _write_json(path: Path, document: dict[str, Any]) -> None:
    write_whole_text(path, json.dumps(document, indent=1) + "\n")
