"""`semsr train`: a recipe and a data folder to a checkpoint."""

import argparse
import sys
from pathlib import Path

from semsr.commands.options import Commands, add_vgg16, data_root, vgg16_path


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = commands.add_parser("train", help="train a generator from a recipe")
    parser.add_argument("recipe", help="TOML file, or the name of a shipped recipe")
    parser.add_argument("--data", type=Path, help="data folder (default: SEMSR_DATA)")
    parser.add_argument("--run", type=Path, dest="run_dir", help="run folder (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on where the run stopped")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe entry"
    )
    add_vgg16(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from training.config import find_recipe
    from training.trainer import train

    recipe = find_recipe(options.recipe)
    checkpoint = train(
        recipe,
        data_root=data_root(options.data),
        run_dir=options.run_dir or Path("runs") / recipe.stem,
        overrides=options.set,
        resume=options.resume,
        vgg16=vgg16_path(options.vgg16),
    )
    sys.stdout.write(f"{checkpoint}\n")
    return 0
