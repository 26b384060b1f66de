"""Options that the commands which judge models share, and their checks."""

import argparse
from pathlib import Path

from semsr.commands.checks import at_least, existing_file, folder_of_images, one_of, writable_folder
from semsr.commands.options import UsageError, add_vgg16, grey_window, vgg16_path


def add_judging(parser: argparse.ArgumentParser, *, row: str) -> None:
    """Declare how much is judged and with what.

    Args:
        parser: Parser of the subcommand.
        row: Subject of a row of `--json`.
    """
    parser.add_argument(
        "--limit", type=int, help="tiles of each split, for a quick look (default: all)"
    )
    parser.add_argument("--engine", default="onnx", help="engine that runs bundles")
    parser.add_argument("--jobs", type=int, help="processes that judge (default: usable CPUs)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("out/evaluation-cache"),
        help="folder that keeps measurements",
    )
    add_vgg16(parser)
    parser.add_argument("--json", action="store_true", help=f"print one row a {row} as JSON")


def check_judging(options: argparse.Namespace) -> Path | None:
    """Check what `add_judging` declares; returns the weights of the feature network or None.

    Raises:
        UsageError: An argument is wrong.
    """
    from engines.registry import ENGINES

    at_least(options.limit, 1, "--limit")
    at_least(options.jobs, 1, "--jobs")
    one_of(options.engine, list(ENGINES), "--engine")
    writable_folder(options.cache, "--cache")
    vgg16 = vgg16_path(options.vgg16)
    if vgg16 is not None:
        existing_file(vgg16, "--vgg16")
    return vgg16


def add_own_tiles(
    parser: argparse.ArgumentParser, group: "argparse._ArgumentGroup", *, lr: str
) -> None:
    """Declare what goes with a folder of own tiles, and the detector.

    Args:
        parser: Parser of the subcommand.
        group: Its group of data.
        lr: Option that names the folder of LR tiles.
    """
    group.add_argument(
        "--hr",
        type=Path,
        metavar="FOLDER",
        help=f"your own HR images of other places of the same kinds, for {lr} (default: none)",
    )
    group.add_argument(
        "--pairs",
        type=Path,
        nargs=2,
        metavar=("LR_FOLDER", "HR_FOLDER"),
        help="your own aligned pairs, of equal names but for _lr and _hr at their ends, HR the "
        f"scale times as large, for {lr} (default: none)",
    )
    parser.add_argument(
        "--window",
        metavar="LO,HI",
        help=f"grey range of 16-bit images of {lr} and --hr that becomes black to white (default: "
        "the first bundle's)",
    )
    parser.add_argument(
        "--max-rows",
        type=int,
        metavar="N",
        help=f"rows used of images of {lr}, from the top: a data bar below is left out; of --hr "
        "the scale times as many (default: all)",
    )
    parser.add_argument(
        "--detector",
        type=Path,
        metavar="FILE",
        help="weights of semsr train-detector, or your own detector as ONNX, which judges own "
        "tiles too (default: shipped)",
    )
    parser.add_argument(
        "--detector-threshold",
        type=float,
        default=0.5,
        metavar="SCORE",
        help="least score of an alarm of your own detector, 0 to 1",
    )


def check_own_tiles(options: argparse.Namespace) -> tuple[tuple[int, int] | None, Path | None]:
    """Check what `add_own_tiles` declares; returns the window and the fab's own detector.

    Raises:
        UsageError: An argument is wrong.
    """
    at_least(options.max_rows, 1, "--max-rows")
    window = None if options.window is None else grey_window(options.window, "--window")
    own_detector = None
    if options.detector is not None:
        existing_file(options.detector, "--detector")
        if options.detector.suffix.lower() == ".onnx":
            own_detector = options.detector
    if not 0 < options.detector_threshold < 1:
        raise UsageError(
            f"--detector-threshold is {options.detector_threshold}, expected a score between 0 "
            "and 1"
        )
    return window, own_detector


def check_own_folders(options: argparse.Namespace, lr: Path, option: str) -> None:
    """Check that the folders of own tiles hold images.

    Args:
        options: Arguments with `hr` and `pairs`.
        lr: Folder of the LR tiles.
        option: Option that names it.

    Raises:
        UsageError: A folder is missing or holds no image.
    """
    folder_of_images(lr, option)
    if options.hr is not None:
        folder_of_images(options.hr, "--hr")
    for folder in options.pairs or ():
        folder_of_images(folder, "--pairs")
