"""`semsr simulate`: make the benchmark, or single tiles, with known defects."""

import argparse
import importlib.util
import sys
from pathlib import Path

from semsr.commands.checks import at_least, need_development, one_of, writable_folder
from semsr.commands.options import Commands, UsageError, add_command

DEFAULT_SPLITS = ("train_lr", "train_hr", "reference_hr", "test_defect", "test_clean")
FURTHER_SPLITS = (
    "thousand_defect",
    "thousand_clean",
    "unknown_defect",
    "train_pairs",
    "x4_244",
    "x2_232",
    "aei_x4",
    "aei_x2",
    "cucmp_x4",
    "cucmp_x4_validation",
    "cucmp_x4_top",
    "cucmp_x2",
    "cucmp_x2_validation",
    "cucmp_x2_top",
)
"""Splits, copied from `training.simulator.splits`, which takes a second to import."""

MIN_TILE_PX = 48
SCALES = (1, 2, 4)


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "simulate",
        help="write the simulated benchmark, or single tiles, with known truth",
        examples=[
            "semsr simulate --out out/benchmark --seed 11",
            "semsr simulate --out out/benchmark --seed 11 --splits thousand_defect,thousand_clean",
            "semsr simulate --out out/benchmark --seed 11 --splits unknown_defect",
            "semsr simulate --out out/tiles --seed 7 --tiles 8 --truth",
        ],
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the benchmark or tiles")
    parser.add_argument("--seed", type=int, required=True, help="same seed, same pictures")
    parser.add_argument(
        "--splits",
        metavar="A,B,…",
        help=f"splits of the benchmark (default: {','.join(DEFAULT_SPLITS)}; on request: "
        f"{', '.join(FURTHER_SPLITS)})",
    )
    parser.add_argument("--jobs", type=int, help="processes (default: one per usable CPU)")
    loose = parser.add_argument_group("single tiles instead of the benchmark")
    loose.add_argument(
        "--tiles", type=int, metavar="COUNT", help="number of tiles (default: the benchmark)"
    )
    loose.add_argument("--tile", type=int, default=240, help="side of an LR tile in pixels")
    loose.add_argument("--scale", type=int, default=4, help="HR pixels per LR pixel: 1, 2 or 4")
    loose.add_argument("--truth", action="store_true", help="also write HR pictures and masks")
    loose.add_argument("--clean", action="store_true", help="plant no defects")
    loose.add_argument("--tiff", type=int, default=0, help="also write the first N as 16-bit TIFF")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("scipy") is None:
        need_development("simulate")
    _check(options)
    from semsr.progress import progress
    from training.ground.progress import shown_by

    with progress("loading the simulator"):
        from training.simulator import simulate_tiles, write_benchmark
    with shown_by(progress):
        if options.tiles is None:
            splits = DEFAULT_SPLITS if options.splits is None else options.splits.split(",")
            written = write_benchmark(
                options.out, seed=options.seed, splits=splits, jobs=options.jobs
            )
        else:
            written = simulate_tiles(
                options.out,
                seed=options.seed,
                count=options.tiles,
                tile_px=options.tile,
                scale=options.scale,
                with_truth=options.truth,
                with_defects=not options.clean,
                num_tiff=options.tiff,
            )
    sys.stdout.write(f"{written}\n")
    return 0


def _check(options: argparse.Namespace) -> None:
    writable_folder(options.out, "--out")
    at_least(options.seed, 0, "--seed")
    at_least(options.jobs, 1, "--jobs")
    if options.tiles is None:
        given = [name for name in ("truth", "clean", "tiff") if getattr(options, name)]
        if given or (options.tile, options.scale) != (240, 4):
            raise UsageError("--tile, --scale, --truth, --clean and --tiff need --tiles COUNT")
        for name in [] if options.splits is None else options.splits.split(","):
            one_of(name, (*DEFAULT_SPLITS, *FURTHER_SPLITS), "--splits")
        return
    if options.splits is not None or options.jobs is not None:
        raise UsageError("--splits and --jobs apply to the benchmark: give them without --tiles")
    at_least(options.tiles, 1, "--tiles")
    at_least(options.tile, MIN_TILE_PX, "--tile")
    if options.scale not in SCALES:
        raise UsageError(f"--scale is {options.scale}, expected 1, 2 or 4")
    if not 0 <= options.tiff <= options.tiles:
        raise UsageError(f"--tiff is {options.tiff}, expected 0 to --tiles ({options.tiles})")
