"""`semsr translate`: run a network of scale 1 on pictures that another method enlarged."""

import argparse
from pathlib import Path

from semsr.commands.checks import existing_file, existing_folder, need_development, wrong_use
from semsr.commands.options import Commands, add_command
from semsr.commands.picture_folders import (
    REPEATED,
    add_output,
    check_output,
    load_torch,
    open_folder,
    report,
)


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "translate",
        help="run a checkpoint of scale 1 on pictures that another method enlarged",
        description="Run a checkpoint of scale 1, such as pix2pix after ZSSR, on a folder of "
        f"pictures that another method has enlarged. {REPEATED}",
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
    add_output(parser, layout="the same paths as in FOLDER, as PNG")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("translate")
    existing_file(options.checkpoint, "--checkpoint")
    existing_folder(options.images, "--images")
    check_output(options.out, source=options.images)
    from semsr.translate import find_pictures, options_of, translate_pictures
    from training.data.picture_folder import PicturesError, read_facts

    with wrong_use(PicturesError):
        made_by = read_facts(options.images)
        pictures = find_pictures(options.images, options.out)
    folder = open_folder(options, options_of(options.checkpoint, made_by, device=options.device))
    load_torch(options.device)
    from semsr.progress import progress
    from training.ground.progress import shown_by

    with shown_by(progress):
        made = translate_pictures(
            options.checkpoint, pictures, folder, made_by=made_by, device=options.device
        )
    report(options.out, made=made, total=len(pictures))
    return 0
