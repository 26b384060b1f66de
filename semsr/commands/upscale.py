"""`semsr upscale`: image files, without a server."""

import argparse
import sys
from pathlib import Path

from semsr.commands.options import EXIT_FAILED, Commands


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = commands.add_parser("upscale", help="super-resolve image files without a server")
    parser.add_argument("images", type=Path, nargs="+", help="image files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--bundle", type=Path, help="bundle (default: SEMSR_BUNDLE)")
    parser.add_argument(
        "--engine", help="auto, onnx, openvino, tensorrt, torch or identity (SEMSR_ENGINE)"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from semsr.upscale import upscale_files

    failures = upscale_files(
        options.images, options.out, bundle=options.bundle, engine=options.engine
    )
    for path, reason in failures:
        sys.stderr.write(f"{path}: {reason}\n")
    return EXIT_FAILED if failures else 0
