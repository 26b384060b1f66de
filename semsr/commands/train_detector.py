"""`semsr train-detector`: train the evaluation's defect detector on simulated tiles alone."""

import argparse
import logging
import sys
from pathlib import Path

from semsr.commands.checks import at_least, need_development, writable_folder
from semsr.commands.options import Commands, UsageError, add_command

CROP_MULTIPLE_PX = 32
MAX_CROP_PX = 960


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "train-detector",
        help="train the defect detector of semsr evaluate, after a change of the simulator",
        examples=[
            "semsr train-detector --out runs/detector --seed 1 --workers 2",
            "semsr train-detector --out runs/detector --seed 1 --resume",
        ],
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--seed", type=int, required=True, help="same seed, same detector")
    parser.add_argument(
        "--cache", type=Path, help="folder that keeps simulated tiles (default: OUT/cache)"
    )
    parser.add_argument("--tiles", type=int, default=800, help="simulated training tiles")
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps")
    parser.add_argument("--batch-size", type=int, default=6, help="crops a step")
    parser.add_argument(
        "--crop-px",
        type=int,
        default=384,
        help="side of a crop in HR pixels, a multiple of 32, up to 960",
    )
    parser.add_argument(
        "--learning-rate", type=float, default=2e-3, help="Adam's rate after the warm-up"
    )
    parser.add_argument(
        "--clean-tiles", type=int, default=200, help="clean tiles that set the threshold"
    )
    parser.add_argument(
        "--defect-tiles", type=int, default=150, help="tiles with defects that measure recall"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate")
    parser.add_argument("--resume", action="store_true", help="continue where the run stopped")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("train-detector")
    _check(options)
    from semsr.progress import progress
    from training.ground.progress import shown_by

    with progress("loading PyTorch"):
        from training.detector.train import DetectorOptions, train_detector

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with shown_by(progress):
        detector = train_detector(
            options.out,
            DetectorOptions(
                seed=options.seed,
                tiles=options.tiles,
                steps=options.steps,
                batch_size=options.batch_size,
                crop_px=options.crop_px,
                learning_rate=options.learning_rate,
            ),
            cache=options.cache or options.out / "cache",
            clean_tiles=options.clean_tiles,
            defect_tiles=options.defect_tiles,
            threads=options.threads,
            workers=options.workers,
            resume=options.resume,
        )
    sys.stdout.write(f"{detector}\n")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Check every argument before torch is loaded."""
    writable_folder(options.out, "--out")
    state = options.out / "state.pt"
    if state.is_file() and not options.resume:
        raise UsageError(
            f"--out: {options.out} already holds a run; continue it with --resume or choose another"
        )
    if options.resume and not state.is_file():
        raise UsageError(f"--resume: {options.out} holds no run to resume")
    at_least(options.seed, 0, "--seed")
    for name in ("tiles", "steps", "batch_size", "clean_tiles", "defect_tiles", "threads"):
        at_least(getattr(options, name), 1, f"--{name.replace('_', '-')}")
    at_least(options.workers, 1, "--workers")
    if not 1 <= options.crop_px <= MAX_CROP_PX or options.crop_px % CROP_MULTIPLE_PX:
        raise UsageError(
            f"--crop-px is {options.crop_px}, expected a multiple of {CROP_MULTIPLE_PX} up to "
            f"{MAX_CROP_PX}, the side of a simulated HR tile"
        )
    if not options.learning_rate > 0:
        raise UsageError(f"--learning-rate is {options.learning_rate}, expected more than 0")
