"""Shared by the commands that make finished pictures for comparisons: options, checks, last line.

They are `semsr internal-sr`, `reference-sr` and `translate`. Each makes a folder for
`semsr evaluate --images` and `semsr compare`.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsr.commands.checks import writable_folder, wrong_use
from semsr.commands.options import UsageError

if TYPE_CHECKING:
    from training.data.picture_folder import PictureFolder

REPEATED = (
    "The pictures are for `semsr evaluate --images NAME=OUT` and `semsr compare NAME=OUT`. A "
    "finished picture is skipped, so that the command can be repeated after a stop. Such a method "
    "cannot be exported or served."
)
"""End of the commands' descriptions."""


def add_output(parser: argparse.ArgumentParser, *, layout: str) -> None:
    """Declare `--out`, `--overwrite` and `--device`.

    Args:
        parser: Parser of the command.
        layout: Names of the pictures in the folder, for the help.
    """
    parser.add_argument("--out", type=Path, required=True, help=f"folder of the pictures, {layout}")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the pictures in OUT, also those of other options or sources",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="device that runs the network"
    )


def check_output(out: Path, *, source: Path | None) -> None:
    """Check that the folder of the pictures is writable and not that of their sources."""
    writable_folder(out, "--out")
    if source is not None and source.resolve() == out.resolve():
        raise UsageError(f"--out is {out}, the folder of the sources; expected another")


def open_folder(options: argparse.Namespace, made_with: Mapping[str, Any]) -> "PictureFolder":
    """Open the folder of `--out`, for pictures of these options."""
    from training.data.picture_folder import PictureFolder, PicturesError

    folder = PictureFolder(options.out, made_with)
    with wrong_use(PicturesError):
        folder.open(overwrite=options.overwrite)
    return folder


def load_torch(device: str) -> None:
    """Import PyTorch, which takes seconds, and check that it finds the device of `--device`."""
    from semsr.progress import progress

    with progress("loading PyTorch"):
        import torch
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device is 'cuda', but PyTorch finds no GPU; expected cpu here")


def report(out: Path, *, made: int, total: int) -> None:
    """Write the command's last line."""
    sys.stdout.write(f"{out}: {made} pictures made, {total - made} there before\n")
