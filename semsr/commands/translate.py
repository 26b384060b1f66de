"""`semsr translate`: run a network of scale 1 on pictures that another method enlarged."""

import argparse
import sys
from pathlib import Path

from semsr.commands.checks import (
    existing_file,
    existing_folder,
    need_development,
    writable_folder,
    wrong_use,
)
from semsr.commands.options import Commands, UsageError, add_command


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "translate",
        help="run a checkpoint of scale 1 on pictures that another method enlarged",
        description="Run a checkpoint of scale 1, such as pix2pix after ZSSR, on a folder of "
        "pictures that another method has enlarged, for `semsr evaluate --images NAME=OUT`. A "
        "finished picture is skipped, so that the command can be repeated after a stop. Such a "
        "network cannot be exported or served.",
        examples=[
            "semsr translate --checkpoint runs/p2p/checkpoint.safetensors --images out/zssr --out "
            "out/p2p",
        ],
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="FILE", help="network of scale 1"
    )
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="pictures, searched with its subfolders; they are read as in the training",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of the results: the same paths as in FOLDER, as PNG",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the network")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make all pictures again, also where OUT holds those of another checkpoint",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("translate")
    existing_file(options.checkpoint, "--checkpoint")
    existing_folder(options.images, "--images")
    writable_folder(options.out, "--out")
    if options.images.resolve() == options.out.resolve():
        raise UsageError(f"--out is {options.out}, the folder of the pictures; expected another")
    from semsr.translate import TranslateError, Translations, find_pictures, translate_pictures

    folder = Translations(options.out, options.checkpoint)
    with wrong_use(TranslateError):
        folder.open(overwrite=options.overwrite)
        pictures = find_pictures(options.images, options.out)
    from semsr.progress import progress
    from training.ground.progress import shown_by

    with progress("loading PyTorch"):
        import torch  # noqa: F401 - with its own line of progress
    with shown_by(progress):
        made = translate_pictures(pictures, folder, device=options.device)
    sys.stdout.write(f"{options.out}: {made} pictures made, {len(pictures) - made} there before\n")
    return 0
