"""`semsr upscale`: super-resolve image files and folders of them, without a server."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from semsr.commands.checks import writable_folder
from semsr.commands.options import (
    ENGINES,
    EXIT_FAILED,
    Commands,
    UsageError,
    add_command,
    grey_window,
    print_rows,
)


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "upscale",
        help="super-resolve image files, or folders of them, without a server",
        examples=[
            "semsr upscale samples/0001_iso_lines.png --out out/files",
            "semsr upscale samples --out out/folder --skip-existing",
            "semsr upscale wafer7 --pattern '*_se.tif' --out out/wafer7",
            "semsr upscale wafer7/*.tif --window 0,4095 --out out/wafer7   # 12 bit in 16",
        ],
    )
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="image file, or folder that is searched with its subfolders",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for the results, NAME_x4.SUFFIX; subfolders of a SOURCE are mirrored in it",
    )
    parser.add_argument(
        "--pattern",
        action="append",
        default=[],
        metavar="GLOB",
        help="shell pattern that the names of images in folders must match; may be repeated, then "
        "one of them must match (default: all images)",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing results")
    existing.add_argument(
        "--skip-existing",
        action="store_true",
        help="keep existing results, regardless of the model that made them, and compute the "
        "others: continues an interrupted run",
    )
    parser.add_argument(
        "--window",
        metavar="LO,HI",
        help="grey range of 16-bit images that becomes black to white (default: the bundle's, or "
        "0,65535)",
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=[8, 16],
        default=8,
        help="bits of the results; 16: in the greys of each image, computed by onnx in FP32",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="largest image, height x width in pixels (default: SEMSR_MAX_PIXELS)",
    )
    parser.add_argument("--bundle", type=Path, help="bundle to run (default: SEMSR_BUNDLE)")
    parser.add_argument(
        "--engine", choices=ENGINES, help="engine to run it with (default: SEMSR_ENGINE)"
    )
    parser.add_argument("--json", action="store_true", help="print a row for each image as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    window = None if options.window is None else grey_window(options.window, "--window")
    if options.max_pixels is not None and options.max_pixels < 1:
        raise UsageError(f"--max-pixels is {options.max_pixels}; expected at least 1")
    if options.bits == 16 and options.engine not in (None, "auto", "onnx"):
        raise UsageError(f"--engine is {options.engine} with --bits 16, which only onnx computes")
    writable_folder(options.out, "--out")
    from tqdm import tqdm

    from semsr.error_text import printable
    from semsr.interrupts import sigterm_interrupts
    from semsr.upscale import UpscaledFile, UpscaleError, upscale_files

    def show(row: UpscaledFile) -> None:
        """Write a line above the progress bar: results to stdout, problems to stderr."""
        if row.shape is not None and not options.json:
            height, width = row.shape
            tqdm.write(f"{printable(row.output)}  {width}x{height}", file=sys.stdout)
            sys.stdout.flush()
        for problem in (row.error, *row.notes):
            if problem:
                tqdm.write(printable(f"{row.source}: {problem}"), file=sys.stderr)

    existing = "replace" if options.overwrite else "skip" if options.skip_existing else "refuse"
    try:
        with sigterm_interrupts():  # a stop leaves no temporary file
            rows = upscale_files(
                options.sources,
                options.out,
                patterns=options.pattern,
                bundle=options.bundle,
                engine=options.engine,
                window=window,
                bits=options.bits,
                max_pixels=options.max_pixels,
                existing=existing,
                on_row=show,
                on_left_out=_show_left_out,
            )
    except UpscaleError as error:
        raise UsageError(str(error)) from error
    if options.json:
        print_rows([row.as_dict() for row in rows], "", as_json=True)
    failed = sum(row.error is not None for row in rows)
    skipped = sum(row.is_skipped for row in rows)
    if failed or skipped:
        counts = [f"{len(rows) - failed - skipped} written"]
        counts += [f"{skipped} kept (result exists)"] if skipped else []
        counts += [f"{failed} of {len(rows)} images failed"] if failed else []
        sys.stderr.write(f"semsr upscale: {', '.join(counts)}\n")
    return EXIT_FAILED if failed else 0


def _show_left_out(entries: Counter[str]) -> None:
    kinds = ", ".join(f"{count} x {kind}" for kind, count in entries.most_common())
    sys.stderr.write(f"left out: {kinds}\n")
