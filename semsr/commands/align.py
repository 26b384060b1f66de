"""`semsr align`: find and align the pairs of two folders that show the same places."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsr.commands.checks import (
    at_least,
    folder_of_images,
    need_development,
    writable_folder,
    wrong_use,
)
from semsr.commands.options import Commands, UsageError, add_command, grey_window, print_rows

if TYPE_CHECKING:
    from training.registration.alignment import Alignment

FULL_WINDOW = (0, 65_535)
MAX_SHIFT_PX = 24
"""Defaults, copied from `training`, whose import takes a second; a test compares them."""

GREATEST_SHIFT_PX = 128
GREATEST_SCALE = 8


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = add_command(
        commands,
        "align",
        help="align LR and HR images of the same places, for training on pairs",
        examples=[
            "semsr align --lr fab/fast --hr fab/slow --out out/pairs",
            "semsr align --lr fab/fast --hr fab/slow --out out/pairs --match content",
        ],
    )
    parser.add_argument("--lr", type=Path, required=True, help="folder of LR images, or a glob")
    parser.add_argument(
        "--hr",
        type=Path,
        required=True,
        help="folder of HR images of the same places, or a glob; each has the centre of its LR "
        "image, up to the greatest shift",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of lr/, hr/ and alignment.json"
    )
    parser.add_argument(
        "--match",
        choices=["names", "content"],
        default="names",
        help="pairs by file name, without lr_, hr_, _lr and _hr at its ends, or by content",
    )
    parser.add_argument("--scale", type=int, default=4, help="HR pixels per LR pixel")
    parser.add_argument(
        "--max-shift-px",
        type=int,
        default=MAX_SHIFT_PX,
        metavar="N",
        help="greatest shift along either axis in HR pixels",
    )
    parser.add_argument(
        "--accept-inverted",
        action="store_true",
        help="keep pairs of inverted contrast, if all pairs are so",
    )
    parser.add_argument(
        "--window",
        metavar="LO,HI",
        help="grey range of 16-bit images that becomes black to white (default: 0,65535)",
    )
    parser.add_argument(
        "--max-rows",
        type=int,
        metavar="N",
        help="rows used of LR images, from the top: a data bar below is left out; of HR images the "
        "scale times as many (default: all)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing alignment")
    parser.add_argument(
        "--json", action="store_true", help="write a list of pairs and refused files as JSON"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    need_development("align")
    _check(options)
    window = FULL_WINDOW if options.window is None else grey_window(options.window, "--window")
    from semsr.progress import progress
    from training.ground.progress import shown_by

    with progress("loading SciPy and PyTorch"):
        from training.data.images import load_images
        from training.registration.alignment import align, write_alignment
        from training.registration.matching import check_names, match_content, match_names
    rows = options.max_rows
    with progress("reading images"):
        lr = load_images(
            options.lr.resolve(), root=_root(options.lr), max_rows_px=rows, window=window
        )
        hr = load_images(
            options.hr.resolve(),
            root=_root(options.hr),
            max_rows_px=None if rows is None else rows * options.scale,
            window=window,
        )
    with shown_by(progress):
        search = {"scale": options.scale, "max_shift_px": options.max_shift_px}
        matches = (
            check_names(match_names(lr, hr), **search)
            if options.match == "names"
            else match_content(lr, hr, **search)
        )
        alignment = align(matches, **search, accept_inverted=options.accept_inverted)
    # Before the folder is written, so that the reasons are seen where no pair is left.
    print_rows(_rows(alignment), _text(alignment), as_json=options.json)
    written = write_alignment(alignment, options.out, overwrite=options.overwrite)
    sys.stderr.write(f"alignment: {written}\n")
    return 0


def _root(pattern: Path) -> Path:
    """Return the folder that names are relative to: the given one, or that of a glob."""
    path = pattern.resolve()
    return path if path.is_dir() else path.parent


def _rows(alignment: "Alignment") -> list[dict[str, Any]]:
    refused = [
        {"status": "refused", "lr_file": item.lr_file, "hr_file": item.hr_file,
         "reason": item.reason}
        for item in alignment.refused
    ]  # fmt: skip
    return [{"status": "aligned", **pair.entry()} for pair in alignment.pairs] + refused


def _text(alignment: "Alignment") -> str:
    """Write a line for each pair, each refused file and the numbers of both."""
    lines = []
    if alignment.pairs:
        width = max(len(pair.name) for pair in alignment.pairs)
        width = max(width, len("pair"))
        lines.append(f"{'pair':{width}}  shift y  shift x  residual  correlation  (HR px)")
    else:
        width = 0
    for pair in alignment.pairs:
        found = pair.registration
        unknown = f"  unknown along {found.unknown_axis}" if found.unknown_axis else ""
        lines.append(
            f"{pair.name:{width}}  {found.shift[0]:+7.2f}  {found.shift[1]:+7.2f}  "
            f"{found.residual_px:8.2f}  {found.correlation:11.2f}{unknown}"
        )
    for item in alignment.refused:
        files = " and ".join(filter(None, (item.lr_file, item.hr_file)))
        lines.append(f"refused {files}: {item.reason}")
    lines.append(f"{len(alignment.pairs)} aligned, {len(alignment.refused)} refused")
    return "\n".join(lines)


def _check(options: argparse.Namespace) -> None:
    """Check every argument before SciPy and torch are loaded."""
    from training.registration.target import AlignmentError, check_target

    for option, pattern in (("--lr", options.lr), ("--hr", options.hr)):
        _check_images(pattern, option)
    writable_folder(options.out, "--out")
    with wrong_use(AlignmentError):
        check_target(options.out, overwrite=options.overwrite)
    if not 1 <= options.scale <= GREATEST_SCALE:
        raise UsageError(f"--scale is {options.scale}, expected 1 to {GREATEST_SCALE}")
    if not 1 <= options.max_shift_px <= GREATEST_SHIFT_PX:
        raise UsageError(
            f"--max-shift-px is {options.max_shift_px}, expected 1 to {GREATEST_SHIFT_PX}"
        )
    at_least(options.max_rows, 1, "--max-rows")
    if options.window is not None:
        grey_window(options.window, "--window")


def _check_images(pattern: Path, option: str) -> None:
    """Check that a folder or a glob names at least one image file."""
    if not any(character in str(pattern) for character in "*?["):
        folder_of_images(pattern, option)
        return
    from training.data.images import find_images

    if not find_images(pattern.resolve(), root=Path.cwd()):
        raise UsageError(f"{option}: {pattern} matches no image file")
