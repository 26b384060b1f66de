"""What the subcommands share: exit codes, wrong use, and the options that several take."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[argparse.ArgumentParser]
else:
    # The class takes no parameters when the program runs.
    Commands = object

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class UsageError(Exception):
    """Something that the user gave is missing or wrong."""


def print_rows(rows: list[dict[str, Any]], text: str, *, as_json: bool) -> None:
    """Write rows to stdout: as JSON for machines, else the text that shows them."""
    sys.stdout.write((json.dumps(rows, indent=2, default=str) if as_json else text) + "\n")


def pair(text: str, name: str) -> tuple[int, int]:
    """Read two integers with a comma between them; `name` is the option, for the error."""
    try:
        first, second = (int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{name} is {text!r}; expected two integers such as 240,240") from error
    return first, second


def data_root(given: Path | None) -> Path:
    """Return the data folder: as given, else `SEMSR_DATA`."""
    root = given or (Path(os.environ["SEMSR_DATA"]) if os.environ.get("SEMSR_DATA") else None)
    if root is None:
        raise UsageError("no data folder: give --data DIR or set SEMSR_DATA")
    if not root.is_dir():
        raise UsageError(f"the data folder {root} does not exist")
    return root


def add_vgg16(parser: argparse.ArgumentParser) -> None:
    """Declare `--vgg16`."""
    parser.add_argument(
        "--vgg16", type=Path, help="weights of the feature network (default: SEMSR_VGG16)"
    )


def vgg16_path(given: Path | None) -> Path | None:
    """Return the feature network's file: as given, else `SEMSR_VGG16`; None without either."""
    named = os.environ.get("SEMSR_VGG16")
    return given or (Path(named) if named else None)


def compute_capability(given: str | None, device: str) -> int:
    """Read a compute capability such as 8.9, or ask the GPU; ten times it, such as 89."""
    if given is None:
        from service.engines.cuda import Cuda

        return Cuda("cuda" if device == "cpu" else device).compute_capability()
    major, separator, minor = given.partition(".")
    if not (separator and major.isdecimal() and minor.isdecimal() and len(minor) == 1):
        raise UsageError(f"--compute-capability is {given!r}; expected one such as 8.9")
    return 10 * int(major) + int(minor)
