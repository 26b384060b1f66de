"""Shared by the subcommands: parsers and their help, exit codes, usage errors, common options."""

import argparse
import difflib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[argparse.ArgumentParser]
else:
    # The class takes no parameters when the program runs.
    Commands = object

# Here and not from the settings, whose import takes longer than `--help` may; a test compares them.
ENGINES = ("auto", "onnx", "openvino", "tensorrt", "torch", "identity")
"""Values of `--engine`."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class UsageError(Exception):
    """An argument or setting is missing or wrong."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that keeps the lines of the examples and shows the default of every option.

    Some defaults are not plain values, such as `None` for a setting's value and `[]` for all. Such
    an option describes its default in its help text, and a text with the word "default" stays
    unchanged.
    """

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        default = action.default
        takes_value = bool(action.option_strings) and action.nargs != 0
        if not takes_value or "default" in text or default in (None, argparse.SUPPRESS, []):
            return text
        words = " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
        return f"{text} (default: {words.replace('%', '%%')})"


class CommandParser(argparse.ArgumentParser):
    """A parser that suggests the nearest known word, and knows which subcommand is the default."""

    default_command: str | None = None
    """Subcommand to run where the arguments name none."""

    def __init__(self, **options: Any) -> None:
        """Take the arguments of `argparse.ArgumentParser`."""
        super().__init__(**{"formatter_class": HelpFormatter, **options})

    # The type stubs give three overloads of what is one signature.
    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parse the arguments, and reject unknown ones with the usage of this parser."""
        words = list(sys.argv[1:] if args is None else args)
        options, unknown = super().parse_known_args(self._complete(words), namespace)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            hints = [_nearest(word.partition("=")[0], known) for word in unknown]
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + _first(hints))
        return options, unknown

    def _complete(self, words: list[str]) -> list[str]:
        """Insert the default subcommand where the first word is not a subcommand."""
        if self.default_command is None or (words and words[0] in ("-h", "--help")):
            return words
        if words and not words[0].startswith("-"):
            [action] = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
            # A misspelled subcommand must not be taken for a file of that name.
            if words[0] in action.choices or _nearest(words[0], list(action.choices)):
                return words
        return [self.default_command, *words]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            nearest = _nearest(str(value), [str(choice) for choice in action.choices or ()])
            raise argparse.ArgumentError(action, f"{error.message}{_first([nearest])}") from None


def add_command(
    commands: Commands,
    name: str,
    *,
    help: str,
    examples: Sequence[str],
    description: str | None = None,
) -> argparse.ArgumentParser:
    """Declare a subcommand whose `--help` ends with examples.

    Args:
        commands: Result of `add_subparsers`.
        name: Name of the subcommand.
        help: One line for the list of subcommands.
        examples: Command lines that work as they stand, at least one.
        description: Text of its own help; None takes `help`.
    """
    title = "example:" if len(examples) == 1 else "examples:"
    return commands.add_parser(
        name,
        help=help,
        description=description or f"{help[0].upper()}{help[1:]}.",
        epilog="\n".join([title, *(f"  {line}" for line in examples)]),
    )


def group_of(
    commands: Commands, name: str, *, help: str, default_command: str, examples: Sequence[str]
) -> Commands:
    """Declare a subcommand that has subcommands; returns the parser group to add them to.

    Args:
        commands: Result of `add_subparsers`.
        name: Name of the group.
        help: One line for the list of subcommands.
        default_command: Subcommand to run where none is named.
        examples: Command lines, see `add_command`.
    """
    parser: Any = add_command(commands, name, help=help, examples=examples)
    parser.default_command = default_command
    return parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")


def print_rows(rows: list[dict[str, Any]], text: str, *, as_json: bool) -> None:
    """Write rows to stdout as JSON, or else the text that shows them."""
    sys.stdout.write((json.dumps(rows, indent=2, default=str) if as_json else text) + "\n")


def pair(text: str, name: str) -> tuple[int, int]:
    """Read two integers with a comma between them; `name` is the option, for the error."""
    try:
        first, second = (int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{name} is {text!r}; expected two integers such as 240,240") from error
    return first, second


def grey_window(text: str, name: str) -> tuple[int, int]:
    """Read a grey range of 16-bit images; `name` is the option, for the error."""
    try:
        low, high = (int(part) for part in text.split(","))
    except ValueError:
        low, high = 0, 0
    if not 0 <= low < high <= 65_535:
        raise UsageError(
            f"{name} is {text!r}; expected two grey levels LO,HI with 0 <= LO < HI <= 65535, such "
            "as 0,4095 for 12 bits"
        )
    return low, high


def data_root(given: Path | None) -> Path:
    """Return the given data folder, or else `SEMSR_DATA`."""
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
    """Return the given file of the feature network, or else `SEMSR_VGG16`, or None."""
    named = os.environ.get("SEMSR_VGG16")
    return given or (Path(named) if named else None)


def compute_capability(given: str | None, device: str) -> int:
    """Return ten times a compute capability, such as 89 for 8.9; without one, ask the GPU."""
    if given is None:
        from engines.cuda import Cuda
        from engines.protocol import EngineError

        try:
            return Cuda(
                "cuda" if device == "cpu" else device, engine="tensorrt"
            ).compute_capability()
        except EngineError as error:
            if isinstance(error.__cause__, ImportError):
                raise
            raise UsageError(
                f"{error}; --compute-capability X.Y, such as 8.9, builds with TensorRT for RTX for "
                "a GPU of another machine"
            ) from error
    major, separator, minor = given.partition(".")
    if not (separator and major.isdecimal() and minor.isdecimal() and len(minor) == 1):
        raise UsageError(f"--compute-capability is {given!r}; expected one such as 8.9")
    return 10 * int(major) + int(minor)


def _nearest(word: str, known: Sequence[str]) -> str | None:
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return matches[0] if matches else None


def _first(hints: Sequence[str | None]) -> str:
    return next((f"; did you mean {hint}?" for hint in hints if hint), "")
