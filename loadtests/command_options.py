"""Options that several subcommands of `semsr bench` have, and the checks of their values."""

import argparse
import importlib.util
from pathlib import Path

from semsr.commands.checks import writable_file
from semsr.commands.options import UsageError


def add_plot(parser: argparse.ArgumentParser) -> None:
    """Declare `--plot`."""
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="PNG to draw the rows into (default: none)"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare `--json`."""
    parser.add_argument("--json", action="store_true", help="print rows as JSON")


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Check that options are more than 0.

    Raises:
        UsageError: One of them is not.
    """
    for name in names:
        value = getattr(options, name)
        if value <= 0:
            raise UsageError(f"--{name.replace('_', '-')} is {value:g}; expected more than 0")


def check_packages(options: argparse.Namespace) -> None:
    """Check before the measurement that the packages for a picture or the peak are installed."""
    if options.plot is not None:
        writable_file(options.plot, "--plot")
    from engines.installation import install_hint

    needs = {"--plot": "matplotlib"} if options.plot is not None else {}
    if not getattr(options, "no_peak", True):
        needs["the machine's peak (left out by --no-peak)"] = "torch"
    if getattr(options, "beside_paper", False):
        needs["--beside-paper"] = "torch"
    for what, package in needs.items():
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"{what} needs the package {package}; {install_hint('train')}")
