"""`semsr simulate`: the benchmark, or single tiles, with known truth."""

import argparse
import sys
from pathlib import Path

from semsr.commands.options import Commands, UsageError


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = commands.add_parser(
        "simulate", help="write the simulated benchmark, or single tiles, with known truth"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the benchmark or tiles")
    parser.add_argument("--seed", type=int, required=True, help="same seed, same pictures")
    parser.add_argument(
        "--splits", metavar="A,B,…", help="splits of the benchmark (default: train and test)"
    )
    parser.add_argument("--jobs", type=int, help="processes (default: one per usable CPU)")
    loose = parser.add_argument_group("single tiles instead of the benchmark")
    loose.add_argument("--tiles", type=int, metavar="COUNT", help="number of tiles")
    loose.add_argument("--tile", type=int, default=240, help="side of an LR tile in pixels")
    loose.add_argument("--scale", type=int, default=4, help="HR pixels per LR pixel")
    loose.add_argument("--truth", action="store_true", help="also write HR pictures and masks")
    loose.add_argument("--clean", action="store_true", help="plant no defects")
    loose.add_argument("--tiff", type=int, default=0, help="also write the first N as 16-bit TIFF")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from training.simulator import simulate_tiles, write_benchmark
    from training.simulator.splits import DEFAULT_SPLITS, SPLITS

    if options.tiles is None:
        given = [name for name in ("truth", "clean", "tiff") if getattr(options, name)]
        if given or (options.tile, options.scale) != (240, 4):
            raise UsageError("--tile, --scale, --truth, --clean and --tiff need --tiles COUNT")
        splits = DEFAULT_SPLITS if options.splits is None else options.splits.split(",")
        if unknown := [name for name in splits if name not in SPLITS]:
            raise UsageError(f"unknown split {unknown[0]!r}; expected some of {', '.join(SPLITS)}")
        header = write_benchmark(options.out, seed=options.seed, splits=splits, jobs=options.jobs)
        sys.stdout.write(f"{header}\n")
        return 0
    if options.splits is not None or options.jobs is not None:
        raise UsageError("--splits and --jobs are the benchmark's: give them without --tiles")
    index = simulate_tiles(
        options.out,
        seed=options.seed,
        count=options.tiles,
        tile_px=options.tile,
        scale=options.scale,
        with_truth=options.truth,
        with_defects=not options.clean,
        num_tiff=options.tiff,
    )
    sys.stdout.write(f"{index}\n")
    return 0
