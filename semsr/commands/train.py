"""`semsr train`: train a model from a recipe and a data folder."""

import argparse
import sys
from pathlib import Path

from semsr.commands.checks import existing_file, need_development, writable_folder, wrong_use
from semsr.commands.options import (
    Commands,
    UsageError,
    add_command,
    add_vgg16,
    data_root,
    vgg16_path,
)


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "train",
        help="train a generator from a recipe",
        examples=[
            "semsr train f_lsesim_cpu --data DATA --run runs/mine",
            "semsr train f_lsesim_cpu --data DATA --run runs/mine --resume",
            "semsr train f_lsesim_cpu --data DATA --set optimization.steps=500",
            "semsr train f_lsesim_cpu --data DATA --from runs/mine/checkpoint.safetensors --run "
            "runs/longer",
        ],
    )
    parser.add_argument("recipe", help="TOML file, or the name of a shipped recipe")
    parser.add_argument("--data", type=Path, help="data folder (default: SEMSR_DATA)")
    parser.add_argument("--run", type=Path, dest="run_dir", help="run folder (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="continue where the run stopped")
    parser.add_argument("--overwrite", action="store_true", help="replace a run in the run folder")
    parser.add_argument(
        "--from",
        type=Path,
        dest="start_from",
        metavar="CHECKPOINT",
        help="start from the weights of a checkpoint with the recipe's generator; not needed again "
        "by --resume (default: fresh weights)",
    )
    parser.add_argument(
        "--bank",
        type=Path,
        metavar="DIR",
        help="draw crops from a bank of HR images that are planted once, in place of planting each "
        "crop; made first where DIR is absent or empty (default: none)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a recipe entry, such as optimization.steps=500; several times for several "
        "(default: the recipe as it is)",
    )
    add_vgg16(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("train")
    from training.config.recipe import ConfigError, find_recipe
    from training.data.bank_format import BankError
    from training.run.folder import RunDirError
    from training.run.preflight import check_run

    if options.resume and options.overwrite:
        raise UsageError("--resume continues a run and --overwrite replaces it: give one")
    with wrong_use(FileNotFoundError, BankError, ConfigError, RunDirError):
        recipe = find_recipe(options.recipe)
        root, vgg16 = data_root(options.data), vgg16_path(options.vgg16)
        run_dir = writable_folder(options.run_dir or Path("runs") / recipe.stem, "--run")
        if options.start_from is not None:
            existing_file(options.start_from, "--from")
        if options.bank is not None:
            writable_folder(options.bank, "--bank")
        check_run(
            recipe,
            data_root=root,
            run_dir=run_dir,
            overrides=options.set,
            resume=options.resume,
            overwrite=options.overwrite,
            vgg16=vgg16,
            start_from=options.start_from,
            bank=options.bank,
        )
    from semsr.progress import progress
    from training.ground.progress import shown_by

    with progress("loading PyTorch"):
        from training.trainer import train
    with shown_by(progress):
        checkpoint = train(
            recipe,
            data_root=root,
            run_dir=run_dir,
            overrides=options.set,
            resume=options.resume,
            overwrite=options.overwrite,
            vgg16=vgg16,
            start_from=options.start_from,
            bank=options.bank,
        )
    sys.stdout.write(f"{checkpoint}\n")
    return 0
