"""`semsr demo`: serve, send tiles over HTTP, write pictures, stop."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from semsr.commands.checks import writable_folder
from semsr.commands.options import EXIT_FAILED, Commands, add_command, print_rows


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "demo",
        help="serve, send tiles over HTTP, write LR | bicubic | SR pictures, stop",
        examples=["semsr demo", "semsr demo --tiles wafer7 --out out/wafer7"],
    )
    parser.add_argument("--tiles", type=Path, default=Path("samples"), help="folder of images")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures")
    parser.add_argument("--bundle", type=Path, help="bundle to serve (default: SEMSR_BUNDLE)")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    writable_folder(options.out, "--out")
    from service.settings import Settings

    # Wrong settings are reported at once, not by the service that the demo starts.
    Settings(**({} if options.bundle is None else {"bundle": options.bundle}))
    from semsr.demo import format_rows, run_demo

    rows = run_demo(options.tiles, options.out, bundle=options.bundle)
    print_rows([asdict(row) for row in rows], format_rows(rows), as_json=options.json)
    refused = [row.name for row in rows if row.status != 200]
    sys.stderr.write(f"pictures: {options.out}/NAME_compare.png (LR | bicubic | SR)\n")
    if refused:
        sys.stderr.write(f"semsr demo: {len(refused)} of {len(rows)} refused: {refused[0]}…\n")
        return EXIT_FAILED
    return 0
